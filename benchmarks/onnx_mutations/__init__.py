"""Spoils ONNX files in many ways, and checks what importing makes of each.

``python -m benchmarks.onnx_mutations --cases 2000 --json mutations.json`` must end with every file
either imported, and then in agreement with onnxruntime, or refused with exit status 3: no crash, no hang,
no memory beyond the file's own, nothing opened outside the model's folder.
"""
