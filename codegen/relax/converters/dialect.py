"""The Relax forms of graphopt's own dialect, as converters."""

from __future__ import annotations

from typing import Any

from graphopt.codegen.relax.context import Context, Expr
from graphopt.codegen.relax.registry import ConverterFunction, register_converter
from graphopt.dialect.op import RelaxForm
from graphopt.dialect.registry import all_ops


def _adapt(form: RelaxForm) -> ConverterFunction:
    def convert(context: Context, *operands: Any) -> Expr:
        return form.build(context.builder, *operands)

    return convert


for _op in all_ops():
    # An op without a Relax form is lowered through its decomposition.
    if isinstance(_op.relax, RelaxForm):
        register_converter(_op.overload, _adapt(_op.relax), dtypes=_op.relax.dtypes)
