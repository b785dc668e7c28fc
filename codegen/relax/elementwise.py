"""Emitting elementwise kernels: broadcasting, promotion and rounding in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import ir, relax, te

from graphopt.codegen.relax.context import Context, Expr, shape_of
from graphopt.codegen.relax.dtypes import arithmetic_dtype, tvm_dtype
from graphopt.codegen.relax.scalars import Scalar, cast, constant
from graphopt.codegen.relax.symbols import known


def elementwise(
    context: Context,
    name: str,
    operands: Sequence[Any],
    function: Callable[..., Scalar],
    *,
    compute: str | Sequence[str] | None = None,
) -> Expr:
    """Emits ``function`` applied to each element of the broadcast operands.

    Args:
        operands: Relax tensors, Python numbers, or sizes as TIR expressions.
        function: takes one scalar an operand, of the type that ``compute`` names.
        compute: the type that operands are converted to before ``function``, or one an operand;
            default: :func:`promoted` of the operands.

    Returns:
        a tensor of the node's first output's shape and dtype.
    """
    if compute is None:
        compute = promoted(context.values)
    tensors = [x for x in operands if is_tensor(x)]
    viewed = _viewed(context, tensors)
    if viewed is not None:
        inner = context.retyped(shape_of(viewed), context.dtype)
        inside = [viewed if is_tensor(x) else x for x in operands]
        return context.reshape(elementwise(inner, name, inside, function, compute=compute), context.shape)
    types = [compute] * len(operands) if isinstance(compute, str) else list(compute)
    shape, dtype = context.shape, context.dtype

    def define(*inputs: te.Tensor) -> te.Tensor:
        def body(*index: Any) -> Scalar:
            loads = iter(inputs)
            values = [
                cast(load(next(loads), index, shape), t) if is_tensor(x) else scalar(x, t)
                for x, t in zip(operands, types, strict=True)
            ]
            return cast(function(*values), dtype)

        return te.compute(shape, body, name=name)

    return context.kernel(name, tensors, define)


def _viewed(context: Context, tensors: Sequence[Expr]) -> Expr | None:
    """What the only operand is a reshaped view of: on that, the function joins the kernel that made it."""
    if len(tensors) != 1 or len(shape_of(tensors[0])) != len(context.shape):
        return None
    (x,) = tensors
    if not all(context.symbols.same(a, b) for a, b in zip(shape_of(x), context.shape, strict=True)):
        return None
    behind = context.builder.lookup_binding(x) if isinstance(x, relax.Var) else None
    if isinstance(behind, relax.Call) and behind.op == ir.Op.get("relax.reshape"):
        return behind.args[0]
    return None


def load(tensor: te.Tensor, index: Sequence[Any], shape: Sequence[Any] | None = None) -> Scalar:
    """The element that broadcasting puts at ``index`` of the result.

    Args:
        shape: the result's, if it is at hand.  An axis of size one in both is then indexed as any other:
            fusion joins a kernel to a reduction only where it sees that their elements correspond.
    """
    offset = len(index) - len(tensor.shape)

    def broadcast(axis: int) -> bool:
        one = known(tensor.shape[axis]) == 1
        return one and (shape is None or known(shape[offset + axis]) != 1)

    places = [0 if broadcast(i) else index[offset + i] for i in range(len(tensor.shape))]
    return tensor(*places) if isinstance(tensor, te.Tensor) else tensor[tuple(places)]


def is_tensor(x: Any) -> bool:
    """Whether an operand is a Relax tensor (and no size or number)."""
    return isinstance(getattr(x, "ty", None), relax.TensorType)


def scalar(value: Any, dtype: str) -> Scalar:
    """A number or size as a TIR scalar of ``dtype``."""
    return constant(value, dtype) if isinstance(value, (bool, int, float)) else cast(value, dtype)


def promoted(values: Sequence[Any]) -> str:
    """The type that torch's promotion gives the operands, as arithmetic is done in it."""
    return arithmetic_dtype(tvm_dtype(promoted_torch(values)))


def promoted_torch(values: Sequence[Any]) -> torch.dtype:
    """``torch.result_type`` over tensors and numbers."""
    # A symbolic number promotes as a plain one of its kind.
    plain = [
        0 if isinstance(v, torch.SymInt) else 0.0 if isinstance(v, torch.SymFloat) else v for v in values
    ]
    parts = [v for v in plain if isinstance(v, (torch.Tensor, bool, int, float))]
    tensors = sorted((p for p in parts if isinstance(p, torch.Tensor)), key=lambda t: t.ndim == 0)
    numbers = [p for p in parts if not isinstance(p, torch.Tensor)]
    if len(tensors) == 0:
        return torch.get_default_dtype()
    dtype, dimensioned = tensors[0].dtype, tensors[0].ndim > 0
    for part in [*tensors[1:], *numbers]:
        # result_type ranks tensors with axes over those without, and these over numbers.
        holder = torch.empty((1,) if dimensioned else (), dtype=dtype, device="meta")
        dtype = torch.result_type(holder, part)
    return dtype
