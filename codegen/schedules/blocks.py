"""Reading blocks: what schedule rules ask of a function before they touch it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx
from tvm.error import InternalError

from graphopt.codegen.schedules.rule import NotApplicable

SPATIAL, REDUCTION = "S", "R"


@dataclass(frozen=True)
class Axis:
    """An iteration axis of a block.

    Attributes:
        kind: ``"S"`` (independent), ``"R"`` (reduced over), ``"O"`` (ordered or opaque).
        var: the block's variable.
        extent: its size; None when it is symbolic.
        start: its first value.
    """

    kind: str
    var: tirx.Var
    extent: int | None
    start: tirx.Expr


class Block:
    """A block of a schedule with its axes, in the order of its loops.

    Raises:
        NotApplicable: the block is not in the plain form that operators lower to, one loop an axis.
    """

    def __init__(self, schedule: s_tir.Schedule, handle: Any) -> None:
        self.schedule = schedule
        self.handle = handle
        self.refresh()

    def refresh(self) -> None:
        """Read the block again, after a primitive changed it."""
        self.stmt = self.schedule.get(self.handle)
        self.name = str(self.stmt.name_hint)
        self.axes = [_axis(v) for v in self.stmt.iter_vars]

    @property
    def kinds(self) -> str:
        return "".join(a.kind for a in self.axes)

    @property
    def is_spatial(self) -> bool:
        return set(self.kinds) <= {SPATIAL}

    @property
    def is_reduction(self) -> bool:
        return REDUCTION in self.kinds and set(self.kinds) <= {SPATIAL, REDUCTION}

    @property
    def loops(self) -> list[Any]:
        """The loops around the block; one an axis, or :class:`NotApplicable`."""
        loops = list(self.schedule.get_loops(self.handle))
        if len(loops) != len(self.axes):
            raise NotApplicable(f"block {self.name} has {len(loops)} loops for {len(self.axes)} axes")
        return loops

    def indices(self, region: Any) -> list[tirx.Expr]:
        """Index expressions of a point access (of a wider one, where it starts)."""
        return [r.min for r in region.region]

    def last_written_axis(self) -> int | None:
        """Position of the axis that runs along the output's innermost dimension, if that is one axis."""
        write = self.indices(self.stmt.writes[0])
        for position, axis in enumerate(self.axes):
            if write and axis.kind == SPATIAL and axis.var.same_as(write[-1]):
                return position
        return None

    def written_place(self, position: int) -> int:
        """The dimension of the output that an axis indexes.

        Raises:
            NotApplicable: it is not the index of one dimension.
        """
        for place, index in enumerate(self.indices(self.stmt.writes[0])):
            if index.same_as(self.axes[position].var):
                return place
        raise NotApplicable(f"axis {position} of {self.name} does not index its output")

    def axis_extent(self, position: int) -> tirx.Expr:
        """The extent of an axis as an expression."""
        return self.stmt.iter_vars[position].dom.extent

    def uses(self, region: Any, axis: Axis) -> bool:
        """Whether a read depends on the axis."""
        return any(mentions(i, axis.var) for i in self.indices(region))


def top_blocks(schedule: s_tir.Schedule) -> list[Block]:
    """The function's blocks in order; none of them nested."""
    root = schedule.get_sblock("root")
    return [Block(schedule, b) for b in schedule.get_child_blocks(root)]


def mentions(expression: tirx.Expr, var: tirx.Var) -> bool:
    """Whether ``var`` occurs in the expression."""
    return any(v.same_as(var) for v in collect(expression, tirx.Var))


def collect(node: Any, kind: type) -> list[Any]:
    """Every node of a type below ``node``, in post-order."""
    found: list[Any] = []
    tvm_ffi.structural_walk(node, (kind, found.append), order="post")
    return found


def conjuncts(test: Any) -> list[Any]:
    """The tests that have to hold together, in order."""
    return [*conjuncts(test.a), *conjuncts(test.b)] if isinstance(test, tirx.And) else [test]


def static(extent: Any) -> int | None:
    """The integer behind an extent; None when it is symbolic."""
    return int(extent) if isinstance(extent, int | tirx.IntImm) else None


def loop_extent(schedule: s_tir.Schedule, loop: Any) -> int | None:
    """Trip count of a loop; None when it is symbolic."""
    return static(schedule.get(loop).extent)


def inline_producers(schedule: s_tir.Schedule, keep: frozenset[str] = frozenset()) -> list[Block]:
    """Inline every elementwise or injective block into its consumers, but for those named in ``keep``.

    Returns:
        the blocks that remain.
    """
    for block in top_blocks(schedule):
        if block.is_spatial and block.name not in keep:
            attempt(schedule.compute_inline, block.handle)
    return top_blocks(schedule)


def attempt(primitive: Any, *arguments: Any) -> bool:
    """Apply a primitive whose precondition may not hold; whether it did."""
    try:
        primitive(*arguments)
    except (s_tir.ScheduleError, InternalError):
        # ReverseComputeInline fails with an internal check where an index is not affine.
        return False
    return True


def _axis(var: Any) -> Axis:
    kinds = {tirx.IterVar.DataPar: SPATIAL, tirx.IterVar.CommReduce: REDUCTION}
    return Axis(kinds.get(var.iter_type, "O"), var.var, static(var.dom.extent), var.dom.min)
