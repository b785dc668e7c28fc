"""Reductions along the last axis, a vector register at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from graphopt.codegen.relax.symbols import int64


def reduce_rows(
    name: str,
    rows: Sequence[Any],
    size: Any,
    term: Callable[[Sequence[Any], Any], Any],
    reducer: Callable[..., Any],
    lanes: int | None,
) -> te.Tensor:
    """``reducer`` of ``term(index, k)`` over ``0 <= k < size``.

    Vectors of ``lanes`` elements are reduced lane by lane, then the lanes and what is left over of a row:
    C's order of additions, which LLVM must keep, costs one latency an element.

    Args:
        rows: shape of the result; its last entry is 1.
        size: length of a row, an int or a TIR expression.
        term: of an index of ``rows`` and a place in the row.
        lanes: of a register; None for one plain reduction, where a schedule has its own way.
    """
    known = int(size) if isinstance(size, int | tirx.IntImm) else None
    if lanes is None or (known is not None and known < 2 * lanes):
        k = te.reduce_axis((0, size), "k")
        return te.compute(list(rows), lambda *i: reducer(term(i, k), axis=k), name=name)
    chunks = int64(known // lanes) if known is not None else tirx.floordiv(size, int64(lanes))
    chunk = te.reduce_axis((0, chunks), "chunk")
    partial = te.compute(
        [*rows[:-1], int64(lanes)],
        lambda *i: reducer(term([*i[:-1], int64(0)], chunk * lanes + i[-1]), axis=chunk),
        name=f"{name}_lanes",
    )
    rest = int64(known % lanes) if known is not None else tirx.floormod(size, int64(lanes))
    k = te.reduce_axis((0, lanes + rest), "k")

    def total(*index: Any) -> Any:
        lane = partial(*index[:-1], tirx.min(k, int64(lanes - 1)))
        if known is not None and known % lanes == 0:
            return reducer(partial(*index[:-1], k), axis=k)
        left = term(index, chunks * lanes + tirx.max(k - lanes, int64(0)))
        return reducer(te.if_then_else(k < lanes, lane, left), axis=k)

    return te.compute(list(rows), total, name=name)
