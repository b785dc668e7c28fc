"""Which values an integer or boolean input may take, read off the graph.

A token id must stay below the rows of the embedding that it indexes, a mask is 0 or 1, a cache
position must be a slot of the cache.  The graph says so: each input is followed through the
operators that pass its values on, until something uses them.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphopt.ir.program import Program

_PASSING = frozenset(
    """view reshape unsqueeze squeeze expand slice select to _to_copy cat stack flatten unflatten permute
    transpose t contiguous clone repeat narrow alias detach movedim expand_as view_as split chunk getitem
    unbind lift_fresh_copy type_as masked_fill where minimum maximum clamp""".split()
)
_COMPARING = frozenset("eq ne gt lt ge le logical_not logical_and logical_or bitwise_not".split())


@dataclass(frozen=True)
class ValueRange:
    """The values an input is drawn from.

    Attributes:
        low, high: integers from ``low`` to ``high - 1``.
        mask: the input says which elements count: 0 or 1, and a row always keeps its first element.
        consecutive: values along the last axis must differ: consecutive integers.
        reason: what in the graph says so.
    """

    low: int
    high: int
    mask: bool = False
    consecutive: bool = False
    reason: str = "dtype"


def infer_ranges(program: Program) -> dict[str, ValueRange]:
    """The range of every input that is not floating-point, by input name."""
    ranges: dict[str, ValueRange] = {}
    for spec, node in zip(program.signature.inputs, program.input_nodes, strict=True):
        if not (spec.dtype.is_floating_point or spec.dtype.is_complex):
            ranges[spec.name] = _infer(spec.name, spec.dtype, node)
    return ranges


def _infer(name: str, dtype: torch.dtype, placeholder: fx.Node) -> ValueRange:
    found: list[ValueRange] = []
    compared = False
    seen: set[tuple[fx.Node, int]] = set()
    work = [(placeholder, 0)]
    while work:
        node, offset = work.pop()
        if (node, offset) in seen:
            continue
        seen.add((node, offset))
        for user in node.users:
            op = _op(user)
            use = _indexing(user, op, node)
            if use is not None:
                size, writes = use
                found.append(
                    ValueRange(-offset, size - offset, consecutive=writes, reason=f"{op} {user.name}")
                )
            elif op == "add" and _wraps_around(user, node):
                continue
            elif op in ("add", "sub") and isinstance(user.args[1], int) and user.args[0] is node:
                work.append((user, offset + (user.args[1] if op == "add" else -user.args[1])))
            elif op in _PASSING and node in user.all_input_nodes:
                compared |= _dtype(user) == torch.bool
                work.append((user, offset))
            elif op in _COMPARING and any(isinstance(a, int | bool) and a in (0, 1) for a in user.args):
                compared = True
            elif op == "rsub" or (op == "sub" and user.args[0] in (1, 1.0)):
                compared = True
    if dtype == torch.bool or "mask" in name.lower():
        return ValueRange(0, 2, mask=True, reason="mask")
    if found:
        low, high = max(r.low for r in found), min(r.high for r in found)
        return ValueRange(
            max(low, 0), high, consecutive=any(r.consecutive for r in found), reason=found[0].reason
        )
    if "position" in name.lower():
        return ValueRange(0, 64, consecutive=True, reason="name")
    if compared:
        return ValueRange(0, 2, mask=True, reason="comparison with 0 or 1")
    if dtype in (torch.int8, torch.uint8):
        limits = torch.iinfo(dtype)
        return ValueRange(limits.min, limits.max + 1)
    return ValueRange(0, 16) if dtype == torch.int64 else ValueRange(-100, 101)


def _wraps_around(total: fx.Node, index: fx.Node) -> bool:
    """Whether ``total`` counts a negative index from the end: ``where(index < 0, index + size, index)``."""

    def selects(user: fx.Node) -> bool:
        if _op(user) != "where" or len(user.args) != 3:
            return False
        condition, chosen, other = user.args
        negative = isinstance(condition, fx.Node) and _op(condition) == "lt" and condition.args == (index, 0)
        return negative and chosen is total and other is index

    return bool(total.users) and all(selects(user) for user in total.users)


def _op(node: fx.Node) -> str:
    if node.target is operator.getitem:
        return "getitem"
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.split("::")[1]
    return ""


def _dtype(node: fx.Node) -> torch.dtype | None:
    return getattr(node.meta.get("val"), "dtype", None)


def _size(node: Any, dim: int) -> int | None:
    """A static size, or the size that the program was captured with."""
    shape = node.meta["val"].shape
    if not shape:
        return None
    size = shape[dim]
    if isinstance(size, int):
        return size
    return hint_of(size)


def hint_of(size: Any) -> int | None:
    """The size that a symbolic dimension had when the program was captured."""
    if isinstance(size, int):
        return size
    hint = getattr(getattr(size, "node", None), "hint", None)
    return int(hint) if hint is not None else None


def _indexing(user: fx.Node, op: str, node: fx.Node) -> tuple[int, bool] | None:
    """``(rows, written to)`` if ``node`` indexes something in ``user``."""
    args = user.args
    if op == "embedding" and args[1] is node:
        size = _size(args[0], 0)
    elif op in ("index_select", "gather", "index_add", "index_copy", "index_fill", "scatter", "scatter_add"):
        if len(args) < 3 or args[2] is not node:
            return None
        size = _size(args[0], args[1])  # type: ignore[arg-type]
    elif op in ("index", "index_put", "_unsafe_index") and isinstance(args[1], list | tuple):
        axes = [i for i, a in enumerate(args[1]) if a is node]
        if not axes or _dtype(node) == torch.bool:
            return None
        size = _size(args[0], axes[0])
    elif op == "one_hot" and len(args) > 1 and isinstance(args[1], int) and args[1] > 0:
        size = args[1]
    else:
        return None
    return (size, op in ("index_put", "index_copy", "scatter")) if size else None
