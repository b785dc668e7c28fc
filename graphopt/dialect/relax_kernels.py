"""Small pieces of Relax forms that the families share; TVM is imported by the callers' kernels only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

HALF = ("float16", "bfloat16")


def dtype_of(tensor: Any) -> str:
    """The element type of a Relax expression, as TVM writes it."""
    return str(tensor.ty.dtype.dtype)


def opmath_dtype(dtype: str) -> str:
    """The type that kernels compute ``dtype`` in: float32 for half precision."""
    return "float32" if dtype in HALF else dtype


def broadcast_index(shape: Sequence[Any], index: Sequence[Any]) -> list[Any]:
    """The entry of a tensor of ``shape`` that broadcasting puts at ``index`` of a larger one."""
    from tvm import tirx

    aligned = index[len(index) - len(shape) :]
    return [
        0 if isinstance(size, tirx.IntImm) and size.value == 1 else i
        for size, i in zip(shape, aligned, strict=True)
    ]


def emit_elementwise(bb: Any, name: str, scalar_fn: Callable[..., Any], *tensors: Any) -> Any:
    """Emit ``scalar_fn(dtype, *elements)`` over Relax tensors of one shape as one PrimFunc.

    Half precision is computed in float32, which is then the ``dtype`` that ``scalar_fn`` gets.
    """
    from tvm import te

    def compute(*tensors: Any) -> Any:
        first = tensors[0]
        stored = str(first.dtype)
        dtype = opmath_dtype(stored)
        return te.compute(
            first.shape,
            lambda *i: scalar_fn(dtype, *(t(*i).astype(dtype) for t in tensors)).astype(stored),
            name=name,
        )

    return bb.emit_te(compute, *tensors, primfunc_name_hint=name)
