"""What is said of GPU kernels without running them.

``kernels.py`` puts it together: launches as TVM emits them (``launches.py``), registers and spills from ptxas
(``ptxas.py``), operations and bytes counted before scheduling (``work.py``), and what a GPU could do with
them at best (``roofline.py``).
"""
