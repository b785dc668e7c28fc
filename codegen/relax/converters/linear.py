"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch
from tvm import relax, te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.channels_last import plain
from graphopt.codegen.relax.context import Context, Expr, dtype_of, rank_of, shape_of
from graphopt.codegen.relax.converters.shape import permute_axes
from graphopt.codegen.relax.dtypes import ALL, FLOATS, NUMBERS, accumulator_dtype
from graphopt.codegen.relax.elementwise import elementwise, scalar
from graphopt.codegen.relax.gemm import gemm, gemv, has_few_rows, is_vector, on_gpu
from graphopt.codegen.relax.integers import centred_bytes, packed_factor
from graphopt.codegen.relax.narrow import half_dot, half_factor, narrow_matmul
from graphopt.codegen.relax.packed import packed_matmul
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.strassen import strassen_matmul, strassen_plan
from graphopt.codegen.relax.symbols import known
from graphopt.codegen.relax.weights import weight_of

aten = torch.ops.aten


def product(context: Context, a: Expr, b: Expr, dtype: str | None = None) -> Expr:
    """``a @ b`` with torch's rules for vectors and broadcast batches.

    float32 and float64 are ``relax.matmul``; other types sum in their accumulator type and round
    once, to ``dtype`` (default: that of the operands).
    """
    dtype = dtype or dtype_of(a)
    if on_gpu(context, dtype) and min(rank_of(a), rank_of(b)) > 1 and not is_vector(a):
        return gemm(context, a, b)
    if dtype in ("float32", "float64"):
        return context.emit(relax.op.matmul(a, b))
    if rank_of(a) == 1:
        row = product(context, context.reshape(a, [1, *shape_of(a)]), b, dtype)
        sizes = shape_of(row)
        # The row's axis goes; a vector on the right has taken its own away already.
        return context.reshape(row, [*sizes[:-2], *sizes[-1:]] if rank_of(b) > 1 else sizes[:-1])
    if rank_of(b) == 1:
        column = product(context, a, context.reshape(b, [*shape_of(b), 1]), dtype)
        return context.reshape(column, shape_of(column)[:-1])
    return _direct(context, a, b, dtype)


def _direct(context: Context, a: Expr, b: Expr, dtype: str) -> Expr:
    left, right = shape_of(a), shape_of(b)
    batch = _broadcast(context, left[:-2], right[:-2])
    shape = [*batch, left[-2], right[-1]]
    wide = accumulator_dtype(dtype)

    def at(tensor: te.Tensor, lead: Any, row: Any, column: Any) -> Any:
        sizes = tensor.shape[:-2]
        offset = len(lead) - len(sizes)
        index = [0 if known(n) == 1 else lead[offset + i] for i, n in enumerate(sizes)]
        return s.cast(tensor(*index, row, column), wide)

    def define(x: te.Tensor, y: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, left[-1]), "k")
        total = te.compute(
            shape,
            lambda *i: te.sum(at(x, i[:-2], i[-2], k) * at(y, i[:-2], k, i[-1]), axis=k),
            name="matmul",
        )
        return te.compute(shape, lambda *i: s.cast(total(*i), dtype), name="round")

    return context.kernel("matmul", [a, b], define)


def _broadcast(context: Context, a: list[Any], b: list[Any]) -> list[Any]:
    rank = max(len(a), len(b))
    one = tirx.IntImm("int64", 1)
    a, b = [one] * (rank - len(a)) + a, [one] * (rank - len(b)) + b
    return [y if known(x) == 1 else x for x, y in zip(a, b, strict=True)]


@converter(aten.mm.default, aten.bmm.default, aten.matmul.default, aten.mv.default, aten.dot.default,
           dtypes=NUMBERS)  # fmt: skip
def matmul(context: Context, a: Expr, b: Expr) -> Expr:
    packed = _on_weights(context, a, 1, transposed=True)
    return packed if packed is not None else product(context, a, b)


def _on_weights(
    context: Context, x: Expr, weight: int, *, transposed: bool = False, offset: int | None = None
) -> Expr | None:
    """The product with weights that are known, packed for the CPU; None where it cannot be.

    Args:
        weight, offset: positions among the node's operands; the weight is ``[N, K]``, or ``[K, N]``
            where it is ``transposed``, the offset ``[N]``.
    """
    operands = [*context.node.args, *context.node.kwargs.values()]
    matrix = weight_of(operands[weight])
    bias = None if offset is None else weight_of(operands[offset])
    if context.registers is None or matrix is None or matrix.ndim != 2:
        return None
    outputs, depth = matrix.shape[::-1] if transposed else matrix.shape
    if rank_of(x) < 2 or outputs < 4 or depth < 4:
        return None
    if offset is not None and (bias is None or bias.shape != (outputs,)):
        return None
    matrix = matrix.T if transposed else matrix
    if context.dtype == "float32":
        plan = strassen_plan(context, x, matrix)
        if plan is not None:
            return strassen_matmul(context, x, matrix, bias, plan)
        return packed_matmul(context, x, matrix, bias)
    if context.dtype == "int32":
        return _on_integer_weights(context, operands[0], matrix, bias)
    dot = half_dot(context)
    if dot is None:
        return None
    factor = half_factor(dot, context.dtype)
    return narrow_matmul(context, x, factor, matrix, None if bias is None else bias.float())


def _on_integer_weights(
    context: Context, operand: Any, weight: torch.Tensor, bias: torch.Tensor | None
) -> Expr | None:
    """The product of bytes with weights ``[N, K]``; None where the operand is not made of bytes."""
    centred = centred_bytes(operand)
    packed = None if centred is None else packed_factor(context, centred, weight, padded=False)
    if centred is None or packed is None or context.held is None:
        return None
    return narrow_matmul(context, plain(context, context.held(centred.node)), *packed, bias)


@converter(aten._int_mm.default, dtypes=[torch.int8, torch.uint8])
def int_mm(context: Context, a: Expr, b: Expr) -> Expr:
    packed = _on_weights(context, a, 1, transposed=True)
    return packed if packed is not None else _direct(context, a, b, "int32")


@converter(aten.linear.default, dtypes=NUMBERS)
def linear(context: Context, x: Expr, weight: Expr, bias: Expr | None) -> Expr:
    packed = _on_weights(context, x, 1, offset=2 if bias is not None else None)
    if packed is not None:
        return packed
    if on_gpu(context, dtype_of(x)) and rank_of(weight) == 2 and rank_of(x) > 1:
        if has_few_rows(x):
            return gemv(context, x, weight, bias)
        return gemm(context, x, weight, bias, transposed=True)
    if rank_of(weight) == 1:
        result = product(context, x, weight)
    else:
        result = product(context, x, permute_axes(context, weight, [1, 0]))
    if bias is None:
        return result
    return elementwise(context, "add", [result, bias], lambda a, b: a + b)


def _plus_scaled(context: Context, offset: Expr, result: Expr, beta: Any, alpha: Any) -> Expr:
    def combine(a: Any, b: Any) -> Any:
        b = b if alpha == 1 else b * scalar(alpha, b.ty.dtype)
        if beta == 0:  # torch does not read the offset then: its NaNs do not count
            return b
        return b + (a if beta == 1 else a * scalar(beta, a.ty.dtype))

    return elementwise(context, "add", [offset, result], combine)


@converter(aten.addmm.default, aten.baddbmm.default, aten.addmv.default, dtypes=NUMBERS)
def addmm(context: Context, offset: Expr, a: Expr, b: Expr, beta: Any, alpha: Any) -> Expr:
    if alpha == 1 and beta == 1:
        packed = _on_weights(context, a, 2, transposed=True, offset=0)
        if packed is not None:
            return packed
    return _plus_scaled(context, offset, product(context, a, b), beta, alpha)


@converter(aten.addbmm.default, dtypes=FLOATS)
def addbmm(context: Context, offset: Expr, a: Expr, b: Expr, beta: Any, alpha: Any) -> Expr:
    batch, rows, inner = shape_of(a)
    columns = shape_of(b)[-1]
    wide = context.reshape(permute_axes(context, a, [1, 0, 2]), [rows, batch * inner])
    tall = context.reshape(b, [batch * inner, columns])
    return _plus_scaled(context, offset, product(context, wide, tall), beta, alpha)


@converter(aten.outer.default, aten.ger.default, dtypes=ALL)
def outer(context: Context, a: Expr, b: Expr) -> Expr:
    column = context.reshape(a, [*shape_of(a), 1])
    return elementwise(context, "outer", [column, b], lambda x, y: x * y)
