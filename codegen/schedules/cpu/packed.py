"""Products with packed constant weights: matrix products and convolutions with the channels last.

The kernels (:mod:`graphopt.codegen.relax.packed`) bring their tile along: weights lie in panels of
``columns`` output columns, one panel a block of the result, and ``rows`` rows of the result are
computed together.  A tile stays in registers while the reduction runs, each vector of weights is used
``rows`` times, and what follows the product (bias, activation, residual) happens on the tile before it
is written.  (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS
34(3), 2008; direct convolution on packed weights: Zhang, Franchetti and Low, "High Performance
Zero-Memory Overhead Direct Convolutions", ICML 2018.)

Rows beyond the end of the result repeat its last one and are not written.  Their number may therefore
be symbolic at no cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

import tvm_ffi
from tvm import ir, s_tir, tirx
from tvm.sym import Analyzer

from graphopt.codegen.schedules.blocks import SPATIAL, Block, loop_extent, top_blocks
from graphopt.codegen.schedules.cpu.borders import WINDOW_ROWS, clip_windows
from graphopt.codegen.schedules.cpu.dots import DotProduct, Dots, dot_intrinsic, dot_source
from graphopt.codegen.schedules.cpu.guarded import unmark_vectors
from graphopt.codegen.schedules.cpu.injective import schedule_spatial
from graphopt.codegen.schedules.cpu.parallel import parallelize
from graphopt.codegen.schedules.cpu.tiling import Registers, count
from graphopt.codegen.schedules.decisions import Decisions
from graphopt.codegen.schedules.extents import mapped, name_extents, restore_extents
from graphopt.codegen.schedules.rule import NotApplicable, TunableRule
from graphopt.codegen.targets import Target

PACKED_TILE = "graphopt.packed_tile"
"""Annotation of a packed product's block: rows and columns of its tile, whether columns run inside, and
where rows stand in the result, counted from its end.

The block's independent axes are ``(*outer, rows, panels, columns)``.
"""

DOT_GROUP = "graphopt.dot_group"
"""Annotation of a packed product's block whose innermost reduced axis is a group of narrow numbers, which
one instruction (:mod:`graphopt.codegen.schedules.cpu.dots`) multiplies and adds."""

PADDED, PADDED_PLANES = "padded", "padded_planes"
"""Names of stages that copy an image, ``[N, H, W, C]`` or ``[N, C, H, W]``, into one with a border."""

_LARGE, _BAND = 3 << 20, 1 << 19
"""Bytes of an image that is copied in bands, and of a band: it stays in a core's second cache."""


_MOST_TILES = 5
"""Fewer tiles than this in a row of an image are unrolled."""


def annotated_tile(block: Block) -> tuple[int, int, bool, int] | None:
    """What :data:`PACKED_TILE` says of a packed product's block; None for other blocks."""
    value = dict(block.stmt.annotations).get(PACKED_TILE)
    if value is None:
        return None
    rows, columns, inside, row_axis = (int(v) for v in value)
    return rows, columns, bool(inside), row_axis


def annotated_dot(block: Block, target: Target) -> DotProduct | None:
    """The instruction for a block with :data:`DOT_GROUP`; None for other blocks."""
    if DOT_GROUP not in dict(block.stmt.annotations):
        return None
    dots = Dots.of(target)
    right = str(block.stmt.reads[1].source.dtype)
    left = str(block.stmt.reads[0].source.dtype)
    for dot in (dots.bytes, dots.words, dots.bfloat16):
        if dot is not None and (dot.left, dot.right) == (left, right):
            return dot
    raise NotApplicable(f"no instruction for {left} times {right}")


def _applies(func: tirx.PrimFunc, target: Target) -> bool:
    blocks = top_blocks(s_tir.Schedule(func))
    return sum(annotated_tile(b) is not None for b in blocks) == 1


def _apply(schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> s_tir.Schedule:
    """A matrix product has rows whose number may be computed, such as ``5 * batch``."""
    result = next(b for b in top_blocks(schedule) if not schedule.get_consumers(b.handle))
    if any(len(b.axes) > len(result.axes) + 2 for b in top_blocks(schedule)):
        return _arrange(schedule, target, decisions)  # windows: what is proved of them needs the expressions
    schedule, names = name_extents(schedule, result)
    return restore_extents(_arrange(schedule, target, decisions), names)


def _arrange(schedule: s_tir.Schedule, target: Target, decisions: Decisions) -> s_tir.Schedule:
    main, (rows, columns, inside, row_axis) = next(
        (block, tile) for block in top_blocks(schedule) if (tile := annotated_tile(block)) is not None
    )
    last = inline_epilogue(schedule, main)
    work = count([a.extent for a in main.axes])
    stages = [b for b in top_blocks(schedule) if b.name not in (main.name, last.name)]
    if not all(block.is_spatial for block in stages):
        raise NotApplicable("a block reduces beside the product")
    loops = main.loops
    spatial = [x for x, a in zip(loops, main.axes, strict=True) if a.kind == SPATIAL]
    reduced = [x for x, a in zip(loops, main.axes, strict=True) if a.kind != SPATIAL]
    *outer, row, panel, column = spatial
    dot = annotated_dot(main, target)
    group = [] if dot is None else [reduced.pop()]
    tiles, row = schedule.split(row, factors=[None, rows])
    lanes = gcd(columns, Registers.of(target).lanes if dot is None else dot.widest)
    if dot is not None and lanes not in dict(dot.instructions):
        raise NotApplicable(f"no instruction for {lanes} sums")
    vectors, lane = schedule.split(column, factors=[None, lanes])
    band = None if inside else _band(stages, main, target)
    if band is not None:
        bands, y = schedule.split(outer[1], factors=[None, band])
        order = [outer[0], bands, panel, y, tiles]
    else:
        orders = ([*outer, tiles, panel], [*outer[:1], panel, *outer[1:], tiles], [*outer, panel, tiles])
        order = orders[decisions.choose("order", 0 if inside else 1, range(len(orders)))]
    steps = loop_extent(schedule, reduced[-1]) or 1
    unrolled = decisions.choose("unroll", 1, [u for u in (2, 4) if steps % u == 0 and steps > u])
    if unrolled > 1:
        reduced[-1:] = schedule.split(reduced[-1], factors=[None, unrolled])
        schedule.unroll(reduced[-1])
    schedule.reorder(*order, *reduced, row, vectors, lane, *group)
    for block in stages:
        if band is not None:
            schedule.compute_at(block.handle, bands)
        if not _copy_rows(schedule, block, target, 0 if band is None else 2, decisions):
            schedule_spatial(schedule, block.handle, target, decisions)
    schedule.reverse_compute_at(last.handle, order[-1])
    schedule.set_scope(main.handle, 0, "local")
    if dot is None:
        schedule.vectorize(lane)
    schedule.unroll(vectors)
    schedule.unroll(row)
    if inside:
        # Taps beside each other read the same pixels, which then stay in registers.
        schedule.unroll(reduced[-1])
    lane_name = vectorize_write(schedule, last, columns, lanes)
    windowed = WINDOW_ROWS in main.stmt.annotations
    if windowed and (loop_extent(schedule, tiles) or _MOST_TILES) < _MOST_TILES:
        schedule.unroll(tiles)
    parallelize(schedule, order[:2] if band is not None or windowed else order, target, decisions, work)
    start = schedule.decompose_reduction(main.handle, reduced[0])
    if dot is not None:
        schedule.vectorize(schedule.get_loops(start)[-1])
        schedule.tensorize(lane, dot_intrinsic(dot, lanes))
        source = dot_source(dot, lanes)
        if source is not None:
            schedule.annotate(schedule.get_loops(last.handle)[0], "pragma_import_llvm", source)
    if windowed:
        main.refresh()  # the half that adds has another name
    schedule = unmark_vectors(clip_windows(schedule, main.name))
    return guard(schedule, last.name, {row_axis: rows, -1: columns}, lane_name)


def _band(stages: Sequence[Block], main: Block, target: Target) -> int | None:
    """Rows of the result whose part of a large image with a border is copied at once, to be read from cache.

    None where there is no such image, or where it stays in the cache as a whole.
    """
    if len(stages) != 1 or stages[0].name != PADDED or len(main.axes) < 5:
        return None
    _, height, width, channels = (axis.extent for axis in stages[0].axes)
    rows = main.axes[1].extent
    if height is None or width is None or channels is None or rows is None:
        return None
    line = 4 * channels * width
    if height * line <= _LARGE or channels % (Registers.of(target).lanes // 2):
        return None
    most = min(_BAND // line, -(-rows // (4 * target.cores)))
    band = max((b for b in range(1, most + 1) if rows % b == 0), default=1)
    return band if band >= 4 else None


def _copy_rows(
    schedule: s_tir.Schedule, block: Block, target: Target, within: int, decisions: Decisions
) -> bool:
    """Arrange a stage that copies an image (into one with a border) row by row, in whole vectors.

    Args:
        within: loops around the stage.
    """
    if block.name == PADDED_PLANES:
        # LLVM makes vectors of a row, but for the border.
        schedule.parallel(schedule.fuse(*block.loops[:-1]))
        return True
    lanes = Registers.of(target).lanes
    channels = block.axes[-1].extent
    if len(block.axes) != 4 or channels is None or channels % (lanes // 2):
        return False
    *rows, _, channel = schedule.get_loops(block.handle)[within:]
    width = next(w for w in (2 * lanes, lanes, lanes // 2) if channels % w == 0)
    _, lane = schedule.split(channel, factors=[None, width])
    schedule.vectorize(lane)
    if not within and decisions.choose(f"{block.name}.parallel", 1, (0, 1)):
        schedule.parallel(schedule.fuse(*rows))
    return True


def inline_epilogue(schedule: s_tir.Schedule, main: Block, stages: frozenset[str] = frozenset()) -> Block:
    """One block that writes the result: everything elementwise after the product, and what it needs.

    What has another shape, such as an image that the result is a gate of, follows in loops of its own.

    Args:
        main: the block whose result it is, with columns in panels.
        stages: names of blocks before it that stay; those that it reads itself always do.
    """
    independent = [a for a in main.axes if a.kind == SPATIAL]
    result = _only_consumer(schedule, main.handle).name
    while True:
        last = _only_consumer(schedule, main.handle)
        if not last.is_spatial or len(last.axes) != len(independent) - 1:
            raise NotApplicable("what follows the product has another shape")
        consumers = schedule.get_consumers(last.handle)
        if len(consumers) > 1:
            # What is inlined is written out at each use: only the result itself is short enough for that.
            if last.name == result and _inline_between(schedule, last, consumers):
                continue
            break
        if not consumers or not _same_extents(last, Block(schedule, consumers[0])):
            break
        schedule.compute_inline(last.handle)
    for handle in schedule.get_producers(last.handle):
        if Block(schedule, handle).name != main.name:
            schedule.compute_inline(handle)
    first = {Block(schedule, h).name for h in schedule.get_producers(main.handle)}
    for block in top_blocks(schedule):
        if block.name not in (*first, *stages, main.name, last.name) and schedule.get_consumers(block.handle):
            schedule.compute_inline(block.handle)
    last.refresh()
    return last


def _inline_between(schedule: s_tir.Schedule, last: Block, consumers: Sequence[Any]) -> bool:
    """Inline a step on one of several ways from ``last`` to the result, as ``abs`` in ``y + abs(y)``."""
    for handle in consumers:
        step = Block(schedule, handle)
        if step.is_spatial and schedule.get_consumers(handle) and _same_extents(last, step):
            schedule.compute_inline(handle)
            return True
    return False


def _only_consumer(schedule: s_tir.Schedule, handle: Any) -> Block:
    consumers = schedule.get_consumers(handle)
    if len(consumers) != 1:
        raise NotApplicable("the product is used by more than one block")
    return Block(schedule, consumers[0])


def _same_extents(a: Block, b: Block) -> bool:
    return len(a.axes) == len(b.axes) and all(
        tvm_ffi.structural_equal(a.axis_extent(i), b.axis_extent(i)) for i in range(len(a.axes))
    )


def tile_in_registers(schedule: s_tir.Schedule, product: Block, rows: int, width: int) -> Any:
    """Tiles of ``rows`` by a panel of a product that is a stage, written to memory; the loop over the sum.

    The block's axes are ``(..., rows, columns, sum)``; axes before these number products of one shape.

    Args:
        width: lanes of a vector.
    """
    total = schedule.cache_write(product.handle, 0, "local")
    *_, row, column, depth = schedule.get_loops(product.handle)
    tiles, row = schedule.split(row, factors=[None, rows])
    vectors, lane = schedule.split(column, factors=[None, width])
    schedule.reorder(tiles, depth, row, vectors, lane)
    schedule.reverse_compute_at(total, tiles, preserve_unit_loops=True)
    schedule.vectorize(lane)
    schedule.unroll(vectors)
    schedule.unroll(row)
    *_, written = schedule.get_loops(total)
    _, lane = schedule.split(written, factors=[None, width])
    schedule.vectorize(lane)
    return depth


def vectorize_write(schedule: s_tir.Schedule, last: Block, columns: int, lanes: int) -> str | None:
    """Vectorise the write of a tile; the name of the loop over lanes, all of which lie inside or outside."""
    width = last.axes[-1].extent
    if width is None:
        raise NotApplicable("a symbolic number of columns")
    chunk = next(c for c in (lanes, lanes // 2, lanes // 4, 1) if c and columns % c == 0 and width % c == 0)
    inner = schedule.get_loops(last.handle)[-1]
    extent = loop_extent(schedule, inner)
    if chunk == 1 or extent is None or extent % chunk:
        return None
    _, vector = schedule.split(inner, factors=[None, chunk])
    name = schedule.get(vector).loop_var.name
    schedule.vectorize(vector)
    return name


def guard(schedule: s_tir.Schedule, name: str, sizes: Mapping[int, int], lane: str | None) -> s_tir.Schedule:
    """State when an element of a tile is written: inside the result, a test that all lanes share.

    TVM derives a condition of its own for each lane, which would undo the vectors.

    Args:
        sizes: of a tile, by axis of the result.
    """

    analyzer = Analyzer()

    def first_lane(variable: Any) -> Any:
        # By name: mapping a function renews its variables.
        return tirx.IntImm("int64", 0) if variable.name == lane else variable

    def guarded(realize: Any) -> Any:
        if realize.block.name_hint != name:
            return realize
        tests = []
        for axis, size in sizes.items():
            extent, value = realize.block.iter_vars[axis].dom.extent, realize.iter_values[axis]
            if isinstance(extent, tirx.IntImm) and int(extent) % size == 0:
                continue
            if axis == -1 and lane is not None:
                value = analyzer.simplify(tvm_ffi.structural_map(value, (ir.Var, first_lane)))
            tests.append(value < extent)
        predicate = tirx.all(*tests) if tests else tirx.IntImm("bool", 1)
        return s_tir.SBlockRealize(realize.iter_values, predicate, realize.block)

    return mapped(schedule, [(s_tir.SBlockRealize, guarded)])


PACKED = TunableRule("packed-product", _applies, _apply)
