"""Products with constant weights by Strassen's algorithm: seven multiplications of parts instead of eight.

One level of it.  Rows, sums and columns of ``[M, K] @ [K, N]`` are halved.  Halves of the columns are every
other panel of packed weights, and their seven sums are made here, in float64, to lie in the artifact: 7/4
as many weights.  Halves of the rows are those of a block, small enough for what is made of it to stay in
cache; :mod:`graphopt.codegen.schedules.cpu.strassen` arranges the stages.

Two things differ from a plain product.  Rounding errors are larger, 1.4 times on data of one size, and
bounded by the largest element of a block of rows, not of each row (Higham, *Accuracy and Stability of
Numerical Algorithms*, 2nd ed., SIAM 2002, chapter 23): a row is computed together with the one that lies
half a block beside it.  And an infinity or NaN in either of the two reaches both of them, as NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.bilinear import row_of, stage
from graphopt.codegen.relax.context import OUT_ELEMENTWISE_FUSIBLE, Context, Expr, shape_of
from graphopt.codegen.relax.symbols import int64, known
from graphopt.codegen.schedules.cpu.strassen import PRODUCT, STRASSEN, SUMS, WHOLE
from graphopt.codegen.schedules.cpu.strassen_plan import Rows, StrassenPlan, plan_strassen
from graphopt.codegen.strassen import LEFT, PRODUCTS, RESULT, RIGHT


def strassen_plan(context: Context, x: Expr, weight: torch.Tensor) -> StrassenPlan | None:
    """How to run a product by Strassen's algorithm; None where it cannot, or does not pay.

    Args:
        x: ``[..., rows, K]``.  A symbolic number of rows is left to the plain product; batches may be.
        weight: ``[N, K]``.
    """
    if not context.machine.fast_algorithms or context.registers is None or context.dtype != "float32":
        return None
    outer, size, width = _halved(shape_of(x)[:-1])
    if not size or (width is not None and not known(width)) or 0 in map(known, outer):
        return None  # a number of rows that is not known, or none
    # A batch whose size is not known may be one.
    count = prod(known(n) or 1 for n in outer)
    rows = Rows(count, size, 1 if width is None else int(width))
    outputs, depth = weight.shape
    plan = plan_strassen(rows, depth, outputs, context.registers, context.machine.cores)
    return plan if plan is not None and bool(weight.isfinite().all()) else None


def strassen_matmul(
    context: Context, x: Expr, weight: torch.Tensor, bias: torch.Tensor | None, plan: StrassenPlan
) -> Expr:
    """``x @ weight.T + bias``.

    Args:
        x: ``[..., rows, K]``, float32.
        weight: ``[N, K]``, float32.
        bias: ``[N]`` or None.
        plan: of :func:`strassen_plan`.
    """
    lead = shape_of(x)[:-1]
    outer, size, width = _halved(lead)
    outputs, depth = weight.shape
    columns, group, half = plan.tile.columns, plan.group, depth // 2
    pairs = -(-outputs // (2 * columns))
    inside = [] if width is None else [width]
    across = 1 if width is None else int(width)  # rows of a line
    height = group * across

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        def part(index: Sequence[Any], quarter: int) -> Any:
            *batch, block, row, k = index
            line = block * (2 * group) + quarter // 2 * group + row // across
            place = [line] if width is None else [line, row % across]
            value = data(*batch, *place, k + quarter % 2 * half)
            if plan.blocks * 2 * group == size:
                return value
            return tirx.if_then_else(line < size, value, s.constant(0, "float32"))

        def summed(*index: Any) -> Any:
            *batch, block, p, row, k = index
            return row_of(LEFT, p, lambda quarter: part([*batch, block, row, k], quarter))

        sums = stage([*outer, plan.blocks, PRODUCTS, height, half], summed, SUMS)
        k = te.reduce_axis((0, int64(half)), "k")

        def multiplied(*index: Any) -> Any:
            *batch, block, pair, p, row, column = index
            return te.sum(sums(*batch, block, p, row, k) * packed(pair, p, k, column), axis=k)

        product = stage(
            [*outer, plan.blocks, pairs, PRODUCTS, height, columns],
            multiplied,
            PRODUCT,
            {STRASSEN: [group, len(inside), plan.tile.rows, columns]},
        )

        def joined(*index: Any) -> Any:
            *place, panel, column = index
            batch, (line, *rest) = place[: len(outer)], place[len(outer) :]
            row = line % group * across + (rest[0] if rest else 0)
            quarter = line // group % 2 * 2 + panel % 2
            return row_of(
                RESULT,
                quarter,
                lambda p: product(*batch, line // (2 * group), panel // 2, p, row, column),
            )

        whole = stage([*outer, plan.blocks * 2 * group, *inside, 2 * pairs, columns], joined, WHOLE)

        def result(*index: Any) -> Any:
            *row, column = index
            value = whole(*row, column // columns, column % columns)
            return value + offset[0](column) if offset else value

        return stage([*lead, outputs], result, "result")

    operands = [x, context.constant(_panels(weight, pairs, columns))]
    if bias is not None:
        operands.append(context.constant(bias.detach()))
    return context.kernel("strassen_matmul", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def _halved(lead: Sequence[Any]) -> tuple[list[Any], int | None, Any]:
    """What is left of the axes of rows that blocks are cut from, its size, and the axis within, if any.

    Rows of an image are not mixed with their neighbours: whole lines of it are halved instead, so that
    no axis needs to be merged with another one.
    """
    *outer, size = lead
    lines = known(outer[-1]) if outer else None
    if lines is not None and lines > 1:
        return outer[:-1], lines, size
    return outer, known(size), None


def _panels(weight: torch.Tensor, pairs: int, columns: int) -> torch.Tensor:
    """``[N, K]`` to ``[pairs, 7, K / 2, columns]``, summed and filled up with zeros."""
    outputs, depth = weight.shape
    wide = torch.nn.functional.pad(weight.detach().double().T, (0, 2 * pairs * columns - outputs))
    parts = wide.reshape(2, depth // 2, pairs, 2, columns)
    right = torch.tensor(RIGHT, dtype=torch.float64).reshape(PRODUCTS, 2, 2)
    return torch.einsum("pij,iknjc->npkc", right, parts).to(weight.dtype).contiguous()
