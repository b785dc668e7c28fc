"""Models, measurements and the tables in docs/ that are made from them.

Commands, each with ``--help``: ``python -m benchmarks.model_table``, ``benchmarks.latency``,
``benchmarks.matching``, ``benchmarks.node_counts``.
"""
