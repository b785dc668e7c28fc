"""Tuning: measures other choices for the schedules of a program's kernels, and remembers what is faster.

=============== ================================================================================
``kernel``      what is tuned: a TensorIR function, its key, its space, and the function as decided
``database``    what was measured, one JSON object a line
``worker``      the process that builds, checks and measures
``measuring``   that process, seen from this one
``context``     kernels timed inside their model
``search``      what to try next on one kernel
``session``     which kernel to try next; budgets and interrupts
``progress``    what the command line shows meanwhile
``report``      what came of it
``applying``    the records in a compilation
=============== ================================================================================

:func:`graphopt.tune` is the way in.
"""
