"""Another tile for a product with packed weights, and the layout of weights that it needs.

The tile is chosen with the weights' layout, before loops exist (:mod:`graphopt.codegen.relax.packed`).
So that it can be tuned like any choice of a schedule, this rewrites the finished kernel to another
one: the same sums in the same order, in panels of another width.  Whoever calls the kernel passes its
weights through :meth:`Panels.repack`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx

from graphopt.codegen.schedules.blocks import SPATIAL, Block, mentions, static, top_blocks
from graphopt.codegen.schedules.cpu.packed import PACKED_TILE, annotated_tile
from graphopt.codegen.schedules.cpu.tiling import Registers
from graphopt.codegen.schedules.decisions import Decisions, UnknownDecision
from graphopt.codegen.schedules.extents import mapped
from graphopt.codegen.schedules.rule import NotApplicable
from graphopt.codegen.targets import Target

PREFIX = "panel."
"""How the names of these choices begin; all others are a schedule rule's."""

_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24)
_HALF_VECTORS = (1, 2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True)
class Panels:
    """How a packed operand changes.

    Attributes:
        parameter: its position among the kernel's parameters.
        axes: positions of the axes ``panels`` and ``columns`` in it.
        outputs: columns of the product; the last panel is filled up with zeros.
        columns: of a panel from now on.
    """

    parameter: int
    axes: tuple[int, int]
    outputs: int
    columns: int

    def repack(self, weights: np.ndarray) -> np.ndarray:
        """The same weights in panels of the new width."""
        moved = np.moveaxis(weights, self.axes, (-2, -1))
        flat = moved.reshape(*moved.shape[:-2], -1)[..., : self.outputs]
        count = -(-self.outputs // self.columns)
        padding = [(0, 0)] * (flat.ndim - 1) + [(0, count * self.columns - self.outputs)]
        wide = np.pad(flat, padding).reshape(*flat.shape[:-1], count, self.columns)
        return np.ascontiguousarray(np.moveaxis(wide, (-2, -1), self.axes))


def retile(func: tirx.PrimFunc, target: Target, decisions: Decisions) -> tuple[tirx.PrimFunc, Panels | None]:
    """The function with the tile that was decided on, and how its packed operand changes.

    A function that is no packed product has no choices here and comes back as it is.

    Raises:
        UnknownDecision: a tile that the registers cannot hold.
    """
    try:
        product = _Product(func)
    except NotApplicable:
        return func, None
    return product.retiled(target, decisions)


class _Product:
    """A packed product before scheduling: its tile, operands and the block that takes tiles apart.

    Raises:
        NotApplicable: the function is none, or not in the form that lowering writes.
    """

    def __init__(self, func: tirx.PrimFunc) -> None:
        self.func = func
        self.schedule = s_tir.Schedule(tvm.IRModule({"main": func}))
        found = [(b, t) for b in top_blocks(self.schedule) if (t := annotated_tile(b)) is not None]
        if len(found) != 1:
            raise NotApplicable("not one packed product")
        self.main, (self.rows, self.columns, self.inside, self.row_axis) = found[0]
        independent = [p for p, a in enumerate(self.main.axes) if a.kind == SPATIAL]
        consumers = self.schedule.get_consumers(self.main.handle)
        if len(consumers) != 1 or len(independent) < 3:
            raise NotApplicable("the tiles are used by more than one block")
        self.result = Block(self.schedule, consumers[0])
        self.row, self.panel, self.column = independent[-3:]
        self.total = self.main.stmt.writes[0].source
        self.outputs = self.result.axes[-1].extent
        if len(self.result.axes) + self.row_axis < 0 or self.outputs is None:
            raise NotApplicable("a symbolic number of columns")
        self.row_count = self.result.axis_extent(len(self.result.axes) + self.row_axis)
        self.parameter, self.packed, self.packed_axes = self._packed_operand()

    def _packed_operand(self) -> tuple[int, Any, tuple[int, int]]:
        """The parameter that panel and column index directly."""
        panel, column = (self.main.axes[p].var for p in (self.panel, self.column))
        for region in self.main.stmt.reads:
            indices = self.main.indices(region)
            axes = [next((d for d, i in enumerate(indices) if i.same_as(v)), None) for v in (panel, column)]
            for position, parameter in enumerate(self.func.params):
                if parameter.same_as(region.source) and axes[0] is not None and axes[1] is not None:
                    return position, parameter, (axes[0], axes[1])
        raise NotApplicable("the weights are no parameter in panels")

    def retiled(self, target: Target, decisions: Decisions) -> tuple[tirx.PrimFunc, Panels | None]:
        registers = Registers.of(target)
        assert self.outputs is not None
        widths = [h * registers.lanes // 2 for h in _HALF_VECTORS]
        if self.inside:
            columns = [w for w in widths if self.outputs % w == 0]
        else:
            columns = [w for w in widths if w < self.outputs + registers.lanes]
        width = decisions.choose(f"{PREFIX}columns", self.columns, columns)
        size = static(self.row_count)
        heights = [r for r in _ROWS if size is None or r <= size]
        height = decisions.choose(f"{PREFIX}rows", self.rows, heights)
        if (height, width) == (self.rows, self.columns):
            return self.func, None
        if height * registers.needed(width) > registers.accumulators * 4 // 3:
            raise UnknownDecision(f"a tile of {height} x {width} needs more registers than there are")
        panels = Panels(self.parameter, self.packed_axes, self.outputs, width)
        return self._rewritten(height, width), panels

    def _rewritten(self, height: int, width: int) -> tirx.PrimFunc:
        size = static(self.row_count)
        if size is not None and size % height == 0:
            whole = self.row_count
        else:
            whole = tirx.floordiv(self.row_count + (height - 1), height) * height
        assert self.outputs is not None
        count = tirx.IntImm("int64", -(-self.outputs // width))
        extents = {self.row: whole, self.panel: count, self.column: tirx.IntImm("int64", width)}
        loops = {self.schedule.get(self.main.loops[p]).loop_var: e for p, e in extents.items()}

        def resized_loop(loop: Any) -> Any:
            for var, extent in loops.items():
                if loop.loop_var.same_as(var):
                    return tirx.For(loop.loop_var, loop.min, extent, loop.kind, loop.body)
            return loop

        def resized_block(realize: Any) -> Any:
            if realize.block.name_hint == self.main.name:
                block = self._product_block(
                    realize.block, extents, [height, width, int(self.inside), self.row_axis]
                )
                return s_tir.SBlockRealize(realize.iter_values, realize.predicate, block)
            if realize.block.name_hint == self.result.name:
                return self._result_block(realize, width)
            return realize

        schedule = mapped(self.schedule, [(s_tir.SBlockRealize, resized_block), (tirx.For, resized_loop)])
        # Mapping renews variables: the buffers to resize are looked up in the function as it is now.
        old = schedule.get(schedule.get_sblock(self.main.name)).writes[0].source
        shape = list(old.shape)
        for position, extent in extents.items():
            shape[self.main.written_place(position)] = extent
        schedule = _with_shape(schedule, old, shape)
        packed = schedule.mod["main"].params[self.parameter]
        shape = list(packed.shape)
        shape[self.packed_axes[0]], shape[self.packed_axes[1]] = count, extents[self.column]
        func = _with_shape(schedule, packed, shape).mod["main"]
        # Mapping keeps the function's old type; making it anew infers the one that it has now.
        return tirx.PrimFunc(func.params, func.body, func.ret_type, func.attrs)

    def _product_block(self, block: Any, extents: dict[int, Any], tile: list[int]) -> Any:
        """The block that sums, over as many rows and columns as the new tiles have."""
        axes = list(block.iter_vars)
        for position, extent in extents.items():
            old = axes[position]
            axes[position] = tirx.IterVar(ir.Range(old.dom.min, extent), old.var, old.iter_type)
        row, panel = axes[self.row].var, axes[self.panel].var
        exact = static(extents[self.row]) is not None and static(extents[self.row]) == static(self.row_count)

        def unclipped(node: Any) -> Any:
            return node.a if node.a.same_as(row) else node

        def clipped(var: Any) -> Any:
            return tirx.min(var, self.row_count - 1) if var.same_as(row) and not exact else var

        def widened(node: Any) -> Any:
            wide = node.a.same_as(panel) and static(node.b) == self.columns
            return node.a * tirx.IntImm("int64", tile[1]) if wide else node

        def moved(node: Any) -> Any:
            node = tvm_ffi.structural_map(node, [(tirx.Min, unclipped), (tirx.Mul, widened)])
            return tvm_ffi.structural_map(node, (ir.Var, clipped)) if mentions(node, row) else node

        total = block.writes[0].source
        place = [x.min for x in block.writes[0].region]

        def load(node: Any) -> Any:
            return tirx.BufferLoad(total, place) if node.source.same_as(total) else node

        def store(node: Any) -> Any:
            return tirx.BufferStore(total, node.value, place)

        reads = [
            tirx.BufferRegion(r.source, [ir.Range.from_min_extent(moved(x.min), x.extent) for x in r.region])
            for r in block.reads
        ]
        for region in block.reads:
            if self.inside and not region.source.same_as(self.packed):
                _require_product(region, panel, self.columns)
        # Everything moves, tests on borders too, but for the place of the sum itself.
        body = tvm_ffi.structural_map(moved(block.body), [(ir.TensorLoad, load), (tirx.BufferStore, store)])
        annotations = {**dict(block.annotations), PACKED_TILE: tile}
        return s_tir.SBlock(
            axes, reads, block.writes, block.name_hint, body, block.init, block.alloc_buffers, (), annotations
        )

    def _result_block(self, realize: Any, width: int) -> Any:
        """The block that finds column ``c`` of the result in panel ``c // width``."""
        column = realize.block.iter_vars[-1].var

        def place(node: Any) -> Any:
            if not node.a.same_as(column) or static(node.b) != self.columns:
                return node
            make = tirx.floordiv if isinstance(node, tirx.FloorDiv) else tirx.floormod
            return make(node.a, tirx.IntImm("int64", width))

        return tvm_ffi.structural_map(realize, [(tirx.FloorDiv, place), (tirx.FloorMod, place)])


def _require_product(region: Any, panel: Any, columns: int) -> None:
    """Raises :class:`NotApplicable` where the panel does not occur as ``panel * columns``."""
    found: list[Any] = []
    for index in region.region:
        tvm_ffi.structural_walk(index.min, (tirx.Mul, found.append))
    products = [m for m in found if m.a.same_as(panel) and static(m.b) == columns]
    if any(mentions(i.min, panel) for i in region.region) and not products:
        raise NotApplicable("the operand's channel is not a column of a panel")


def _with_shape(schedule: s_tir.Schedule, old: Any, shape: list[Any]) -> s_tir.Schedule:
    layout = "default" if old.ty.layout is not None else None
    new = tirx.decl_buffer(shape, old.dtype, old.name, scope=old.scope(), layout=layout)
    return mapped(schedule, [(ir.Var, lambda b: new if b.same_as(old) else b)])
