"""Operators of our own: what ATen lacks, in every form that the compiler needs.

An op lives in the torch namespace ``graphopt::`` and brings its schema, reference semantics, fake
kernel, gradient, ONNX form, Relax form and samples in one :class:`~graphopt.dialect.op.DialectOp`.
:func:`graphopt.dialect.registry.load` makes all of them known to torch; ``docs/dialect.md`` says
how to add one.  Nothing here imports torch until a submodule is asked for.
"""
