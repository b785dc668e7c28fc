"""What follows a product (bias, activation, residual, rounding), made ready to run on whole tiles.

Its blocks become one, whose axes are those of the padded product: of a convolution's result, image,
height and width become the one axis that the product's rows run through.  Elements beyond the result are
excluded by a condition that is stated after scheduling, once for all elements of a vector; TVM would
derive one for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.sym import Analyzer

from graphopt.codegen.schedules.blocks import Block, attempt, static, top_blocks
from graphopt.codegen.schedules.cuda.tiles import GemmTile
from graphopt.codegen.schedules.cuda.vectors import lanes_for
from graphopt.codegen.schedules.extents import mapped
from graphopt.codegen.schedules.rule import NotApplicable


@dataclass
class Epilogue:
    """The block that writes the result.

    Attributes:
        name: of the block; its axes are ``(*lead, row, column)`` of the padded product.
        rows, columns: sizes of the result.
        lane: name of the loop over the elements of a vector store.
    """

    name: str
    rows: tirx.Expr
    columns: tirx.Expr
    lane: str | None = None

    def vector(self, schedule: s_tir.Schedule) -> int:
        """Elements of a store: 128 bits, or less where the columns are no multiple of that."""
        return lanes_for(Block(schedule, schedule.get_sblock(self.name)), static(self.columns))


def prepare_epilogue(
    schedule: s_tir.Schedule, product: str, tile: GemmTile
) -> tuple[s_tir.Schedule, Epilogue]:
    """Merge the blocks after the product into one over whole tiles.

    Raises:
        NotApplicable: more than one block uses the product, or the result has another shape.
    """
    main = Block(schedule, schedule.get_sblock(product))
    last = _merge(schedule, main, tile)
    padded = [main.axis_extent(p) for p in range(len(main.axes) - 1)]
    return _over_tiles(schedule, main, last, padded, tile.row_axes)


def guard_epilogue(schedule: s_tir.Schedule, epilogue: Epilogue) -> s_tir.Schedule:
    """State when an element of a tile is written: inside the result, a test that a vector shares."""
    analyzer = Analyzer()

    def first_lane(variable: Any) -> Any:
        # By name: mapping a function renews its variables.
        return tirx.IntImm("int64", 0) if variable.name == epilogue.lane else variable

    def guarded(realize: Any) -> Any:
        if realize.block.name_hint != epilogue.name:
            return realize
        tests = []
        for axis, extent in ((-2, epilogue.rows), (-1, epilogue.columns)):
            value = realize.iter_values[axis]
            if axis == -1 and epilogue.lane is not None:
                value = analyzer.simplify(tvm_ffi.structural_map(value, (ir.Var, first_lane)))
            padded = static(realize.block.iter_vars[axis].dom.extent)
            if padded is None or padded != static(extent):
                tests.append(value < extent)
        predicate = tirx.all(*tests) if tests else tirx.IntImm("bool", 1)
        return s_tir.SBlockRealize(realize.iter_values, predicate, realize.block)

    return mapped(schedule, [(s_tir.SBlockRealize, guarded)])


def _merge(schedule: s_tir.Schedule, main: Block, tile: GemmTile) -> Block:
    """One block that writes the result: everything elementwise after the product, and what it needs."""
    rank = len(main.axes) - 2 + tile.row_axes
    while True:
        consumers = schedule.get_consumers(main.handle)
        if len(consumers) != 1:
            raise NotApplicable("the product is used by more than one block")
        last = Block(schedule, consumers[0])
        if not last.is_spatial or len(last.axes) != rank:
            raise NotApplicable("what follows the product has another shape")
        following = schedule.get_consumers(last.handle)
        if len(following) != 1 or not _same_extents(last, Block(schedule, following[0])):
            break
        schedule.compute_inline(last.handle)
    for handle in schedule.get_producers(last.handle):
        if Block(schedule, handle).name != main.name:
            schedule.compute_inline(handle)
    operands = {"left", "right"}
    for block in top_blocks(schedule):
        if block.name not in (main.name, last.name, *operands) and schedule.get_consumers(block.handle):
            attempt(schedule.compute_inline, block.handle)
    last.refresh()
    return last


def _same_extents(a: Block, b: Block) -> bool:
    return (
        b.is_spatial
        and len(a.axes) == len(b.axes)
        and all(tvm_ffi.structural_equal(a.axis_extent(i), b.axis_extent(i)) for i in range(len(a.axes)))
    )


def _over_tiles(
    schedule: s_tir.Schedule, main: Block, last: Block, padded: list[tirx.Expr], row_axes: int
) -> tuple[s_tir.Schedule, Epilogue]:
    *lead, row, column = [
        tirx.Var(f"{n}{i}", "int64") for i, n in enumerate(["b"] * (len(padded) - 2) + ["i", "j"])
    ]
    sizes = [last.axis_extent(p) for p in range(len(last.axes))]
    first = len(lead)
    values = [*lead, *_decoded(row, sizes[first : first + row_axes]), column]
    meaning = {axis.var: value for axis, value in zip(last.axes, values, strict=True)}
    product = main.stmt.writes[0].source
    outer = schedule.get(last.loops[0]).loop_var
    simplify = Analyzer().simplify

    def value_of(variable: Any) -> Any:
        return next((e for v, e in meaning.items() if v.same_as(variable)), variable)

    def load(node: Any) -> Any:
        if not node.source.same_as(product):
            return node
        return tirx.BufferLoad(product, [*lead, row, column])

    def rewritten(expression: Any) -> Any:
        return tvm_ffi.structural_map(
            tvm_ffi.structural_map(expression, (ir.TensorLoad, load)), (ir.Var, value_of)
        )

    def region(access: Any) -> Any:
        if access.source.same_as(product):
            points = [*lead, row, column]
            return tirx.BufferRegion(product, [ir.Range.from_min_extent(p, 1) for p in points])
        return tirx.BufferRegion(
            access.source,
            [ir.Range.from_min_extent(simplify(rewritten(r.min)), r.extent) for r in access.region],
        )

    block = last.stmt
    axes = [
        tirx.IterVar(ir.Range(tirx.IntImm("int64", 0), extent), var, tirx.IterVar.DataPar)
        for var, extent in zip([*lead, row, column], padded, strict=True)
    ]
    new = s_tir.SBlock(
        axes, [region(r) for r in block.reads], [region(w) for w in block.writes], block.name_hint,
        rewritten(block.body),
    )  # fmt: skip

    def nest(loop: Any) -> Any:
        if not loop.loop_var.same_as(outer):
            return loop
        loops = [tirx.Var(f"t{i}", "int64") for i in range(len(padded))]
        body: Any = s_tir.SBlockRealize(loops, tirx.IntImm("bool", 1), new)
        zero = tirx.IntImm("int64", 0)
        for var, extent in reversed(list(zip(loops, padded, strict=True))):
            body = tirx.For(var, zero, extent, tirx.ForKind.SERIAL, body)
        return body

    rows: Any = tirx.IntImm("int64", 1)
    for size in sizes[first : first + row_axes]:
        rows = rows * size
    changed = mapped(schedule, [(tirx.For, nest)])
    return changed, Epilogue(last.name, simplify(rows), sizes[-1])


def _decoded(row: Any, sizes: list[tirx.Expr]) -> list[Any]:
    """The indices of several axes that one index runs through."""
    values: list[Any] = []
    for size in reversed(sizes[1:]):
        values.insert(0, tirx.floormod(row, size))
        row = tirx.floordiv(row, size)
    return [row, *values]
