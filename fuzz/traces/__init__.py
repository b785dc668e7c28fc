"""Traces: which ATen operators are called, with which arguments.

:func:`~graphopt.fuzz.traces.collect.collect` gathers them; rules are inferred from them.
"""
