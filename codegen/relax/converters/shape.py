"""Views, copies and rearrangements: nothing here computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import relax, te, tirx

from graphopt.codegen.relax.context import Context, Expr, dtype_of, normalize_axis, rank_of, shape_of
from graphopt.codegen.relax.converters.pointwise import convert_dtype
from graphopt.codegen.relax.elementwise import load
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.symbols import int64, known

aten = torch.ops.aten


def gather_elements(context: Context, name: str, x: Expr, source: Callable[..., Sequence[Any]]) -> Expr:
    """Emits ``y[i] = x[source(i)]`` with the node's output shape."""
    shape = context.shape

    def define(data: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *i: data(*source(*i)), name=name)

    return context.kernel(name, [x], define)


# -- reshapes: the output's shape is all there is to know -----------------------------------------


@converter(
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten._reshape_alias.default,
    aten.view_as.default,
    aten.reshape_as.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.ravel.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
)
def reshape(context: Context, x: Expr, *_: Any) -> Expr:
    return context.reshape(x, context.shape)


@converter(aten.pixel_shuffle.default)
def pixel_shuffle(context: Context, x: Expr, factor: int) -> Expr:
    *lead, channels, height, width = shape_of(x)
    rank = len(lead)
    parts = [*lead, tirx.floordiv(channels, factor * factor), factor, factor, height, width]
    order = [*range(rank), *(rank + i for i in (0, 3, 1, 4, 2))]
    x = context.emit(relax.op.permute_dims(context.reshape(x, parts), order))
    return context.reshape(x, context.shape)


@converter(aten.pixel_unshuffle.default)
def pixel_unshuffle(context: Context, x: Expr, factor: int) -> Expr:
    *lead, channels, height, width = shape_of(x)
    rank = len(lead)
    parts = [*lead, channels, tirx.floordiv(height, factor), factor, tirx.floordiv(width, factor), factor]
    order = [*range(rank), *(rank + i for i in (0, 2, 4, 1, 3))]
    x = context.emit(relax.op.permute_dims(context.reshape(x, parts), order))
    return context.reshape(x, context.shape)


@converter(aten.channel_shuffle.default)
def channel_shuffle(context: Context, x: Expr, groups: int) -> Expr:
    batch, channels, *rest = shape_of(x)
    split = context.reshape(x, [batch, groups, tirx.floordiv(channels, groups), *rest])
    order = [0, 2, 1, *range(3, rank_of(split))]
    return context.reshape(context.emit(relax.op.permute_dims(split, order)), context.shape)


# -- permutations ----------------------------------------------------------------------------------


def permute_axes(context: Context, x: Expr, order: Sequence[int]) -> Expr:
    if list(order) == list(range(len(order))):
        return x
    return context.emit(relax.op.permute_dims(x, list(order)))


@converter(aten.permute.default)
def permute(context: Context, x: Expr, dims: Sequence[int]) -> Expr:
    return permute_axes(context, x, [normalize_axis(d, rank_of(x)) for d in dims])


@converter(aten.transpose.int, aten.swapaxes.default, aten.swapdims.default)
def transpose(context: Context, x: Expr, a: int, b: int) -> Expr:
    order = list(range(rank_of(x)))
    if not order:
        return x
    a, b = normalize_axis(a, len(order)), normalize_axis(b, len(order))
    order[a], order[b] = order[b], order[a]
    return permute_axes(context, x, order)


@converter(aten.t.default, aten.numpy_T.default, aten.matrix_H.default)
def reverse_axes(context: Context, x: Expr) -> Expr:
    return permute_axes(context, x, list(reversed(range(rank_of(x)))))


@converter(aten.mT.default)
def matrix_transpose(context: Context, x: Expr) -> Expr:
    return transpose(context, x, -2, -1)


@converter(aten.movedim.int, aten.movedim.intlist)
def movedim(context: Context, x: Expr, source: Any, destination: Any) -> Expr:
    rank = rank_of(x)
    sources = [normalize_axis(d, rank) for d in (source if isinstance(source, (list, tuple)) else [source])]
    targets = [
        normalize_axis(d, rank)
        for d in (destination if isinstance(destination, (list, tuple)) else [destination])
    ]
    placed = dict(zip(targets, sources, strict=True))
    rest = iter(i for i in range(rank) if i not in sources)
    return permute_axes(context, x, [placed[i] if i in placed else next(rest) for i in range(rank)])


# -- broadcasting and repetition -------------------------------------------------------------------


@converter(aten.expand.default, aten.expand_as.default, aten.broadcast_to.default)
def expand(context: Context, x: Expr, *_: Any) -> Expr:
    shape = context.shape
    if rank_of(x) == len(shape) and all(
        context.symbols.same(a, b) for a, b in zip(shape, shape_of(x), strict=True)
    ):
        return x

    def define(data: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *i: load(data, i), name="expand")

    return context.kernel("expand", [x], define)


@converter(aten.repeat.default, aten.tile.default)
def repeat(context: Context, x: Expr, repeats: Sequence[Any]) -> Expr:
    offset, sizes = len(context.shape) - rank_of(x), shape_of(x)
    return gather_elements(
        context,
        "repeat",
        x,
        lambda *i: [0 if known(n) == 1 else tirx.floormod(i[offset + k], n) for k, n in enumerate(sizes)],
    )


@converter(aten.repeat_interleave.self_int)
def repeat_interleave(context: Context, x: Expr, repeats: Any, dim: int | None, _output_size: Any) -> Expr:
    if dim is None:
        total: Any = tirx.IntImm("int64", 1)
        for size in shape_of(x):
            total = total * size
        x, dim = context.reshape(x, [total]), 0
    axis = normalize_axis(dim, rank_of(x))

    def source(*i: Any) -> list[Any]:
        return [tirx.floordiv(v, int64(repeats)) if k == axis else v for k, v in enumerate(i)]

    return gather_elements(context, "repeat_interleave", x, source)


@converter(aten.flip.default)
def flip(context: Context, x: Expr, dims: Sequence[int]) -> Expr:
    sizes = shape_of(x)
    axes = {normalize_axis(d, len(sizes)) for d in dims}
    return gather_elements(
        context, "flip", x, lambda *i: [sizes[k] - 1 - v if k in axes else v for k, v in enumerate(i)]
    )


@converter(aten.roll.default)
def roll(context: Context, x: Expr, shifts: Any, dims: Sequence[int]) -> Expr:
    shifts = list(shifts) if isinstance(shifts, (list, tuple)) else [shifts]
    original = x
    if not dims:
        total: Any = tirx.IntImm("int64", 1)
        for size in shape_of(x):
            total = total * size
        flat = context.reshape(x, [total])
        moved = _roll(context, flat, {0: int64(shifts[0])}, [total])
        return context.reshape(moved, shape_of(original))
    by_axis: dict[int, Any] = {}
    for shift, dim in zip(shifts, dims, strict=True):
        axis = normalize_axis(dim, rank_of(x))
        by_axis[axis] = by_axis.get(axis, 0) + int64(shift)
    return _roll(context, x, by_axis, shape_of(x))


def _roll(context: Context, x: Expr, shifts: dict[int, Any], sizes: Sequence[Any]) -> Expr:
    # No remainder of a sum: over the fused loops of two axes, TVM simplifies two of them to something else.
    first = {
        k: tirx.floormod(int64(shift), int64(sizes[k])) for k, shift in shifts.items() if known(sizes[k]) != 0
    }

    def source(axis: int, place: Any) -> Any:
        if axis not in first:
            return place
        return place - first[axis] + tirx.Select(place < first[axis], int64(sizes[axis]), int64(0))

    def define(data: te.Tensor) -> te.Tensor:
        return te.compute(list(sizes), lambda *i: data(*map(source, range(len(i)), i)), name="roll")

    return context.kernel("roll", [x], define)


# -- slices ----------------------------------------------------------------------------------------


def _bounded(context: Context, value: Any, size: Any) -> Any:
    """A slice bound counted from the front and clamped to the axis, as torch does it."""
    value = int64(value)
    value = tirx.Select(value < 0, value + size, value)
    return context.symbols.analyzer.simplify(tirx.max(tirx.min(value, size), tirx.IntImm("int64", 0)))


@converter(aten.slice.Tensor)
def slice_axis(context: Context, x: Expr, dim: int, start: Any, end: Any, step: Any) -> Expr:
    sizes = shape_of(x)
    axis = normalize_axis(dim, len(sizes))
    if known(step) == 1 and context.symbols.same(sizes[axis], context.shape[axis]):
        return x
    first = _bounded(context, 0 if start is None else start, sizes[axis])
    return gather_elements(
        context, "slice", x, lambda *i: [first + v * int64(step) if k == axis else v for k, v in enumerate(i)]
    )


@converter(aten.narrow.default)
def narrow(context: Context, x: Expr, dim: int, start: Any, length: Any) -> Expr:
    return slice_axis(context, x, dim, start, None, 1)


@converter(aten.select.int)
def select(context: Context, x: Expr, dim: int, index: Any) -> Expr:
    sizes = shape_of(x)
    axis = normalize_axis(dim, len(sizes))
    place = int64(index)
    # A negative index counts from the end: TVM's take reads in front of the buffer.
    place = context.symbols.analyzer.simplify(tirx.Select(place < 0, place + sizes[axis], place))
    return gather_elements(context, "select", x, lambda *i: [*i[:axis], place, *i[axis:]])


def pieces(context: Context, x: Expr, axis: int, lengths: Sequence[Any]) -> list[Expr]:
    """Consecutive slices along ``axis``."""
    sizes, results, start = shape_of(x), [], int64(0)
    for length in lengths:
        shape = [*sizes[:axis], int64(length), *sizes[axis + 1 :]]

        def define(data: te.Tensor, shape: Any = shape, start: Any = start) -> te.Tensor:
            return te.compute(
                shape,
                lambda *i: data(*(v + start if k == axis else v for k, v in enumerate(i))),
                name="split",
            )

        results.append(context.kernel("split", [x], define) if len(lengths) > 1 else x)
        start = context.symbols.analyzer.simplify(start + int64(length))
    return results


@converter(
    aten.split.Tensor,
    aten.split.sizes,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.tensor_split.sections,
    aten.unsafe_split.Tensor,
    aten.unsafe_chunk.default,
)
def split(context: Context, x: Expr, _sizes: Any, dim: int) -> list[Expr]:
    axis = normalize_axis(dim, rank_of(x))
    return pieces(context, x, axis, [shape[axis] for shape, _ in context.outputs])


@converter(aten.unbind.int)
def unbind(context: Context, x: Expr, dim: int) -> list[Expr]:
    axis = normalize_axis(dim, rank_of(x))

    def define_at(place: int) -> Callable[[te.Tensor], te.Tensor]:
        return lambda data: te.compute(
            context.shape, lambda *i: data(*i[:axis], tirx.IntImm("int64", place), *i[axis:]), name="unbind"
        )

    return [context.kernel("unbind", [x], define_at(k)) for k in range(len(context.outputs))]


# -- joins -----------------------------------------------------------------------------------------


@converter(aten.cat.default, aten.concat.default, aten.concatenate.default)
def cat(context: Context, tensors: Sequence[Expr], dim: int) -> Expr:
    # torch takes empty one-dimensional tensors of any width; relax.op.concat refuses them.
    rank = len(context.shape)
    axis = normalize_axis(dim, rank)
    parts = [
        x
        for x in tensors
        if not (rank_of(x) == 1 and known(shape_of(x)[0]) == 0)
        and not (rank_of(x) == rank and known(shape_of(x)[axis]) == 0)
    ]
    parts = parts or [x for x in tensors if rank_of(x) == rank][:1]
    cast = [convert_part(context, x) for x in parts]
    if len(cast) == 1:
        return cast[0]
    if known(context.shape[axis]) is None:
        return _joined(context, cast, axis)
    return context.emit(relax.op.concat(cast, axis))


def _joined(context: Context, parts: list[Expr], axis: int) -> Expr:
    """A concatenation along a symbolic axis.

    relax.op.concat writes the sum of the sizes in its own way, ``n + 1`` for ``1 + n``, and FuseTIR
    compares sizes to the letter.
    """

    def define(*data: te.Tensor) -> te.Tensor:
        starts = [int64(0)]
        for tensor in data:
            starts.append(starts[-1] + tensor.shape[axis])

        def element(*index: Any) -> Any:
            place = index[axis]

            def part(number: int) -> Any:
                return data[number](*index[:axis], place - starts[number], *index[axis + 1 :])

            value = part(len(data) - 1)
            for number in reversed(range(len(data) - 1)):
                value = tirx.if_then_else(place < starts[number + 1], part(number), value)
            return value

        return te.compute(context.shape, element, name="concat")

    return context.kernel("concat", parts, define)


def convert_part(context: Context, x: Expr) -> Expr:
    """A joined tensor in the dtype of the whole."""
    if dtype_of(x) == context.dtype:
        return x
    part = context.retyped(shape_of(x), context.dtype)
    return convert_dtype(part, x)


@converter(aten.stack.default)
def stack(context: Context, tensors: Sequence[Expr], dim: int) -> Expr:
    axis = normalize_axis(dim, len(context.shape))
    wide = []
    for x in tensors:
        sizes = shape_of(x)
        wide.append(context.reshape(convert_part(context, x), [*sizes[:axis], 1, *sizes[axis:]]))
    return wide[0] if len(wide) == 1 else context.emit(relax.op.concat(wide, axis))


@converter(aten.diagonal.default, aten.diagonal_copy.default)
def diagonal(context: Context, x: Expr, offset: int, dim1: int, dim2: int) -> Expr:
    rank = rank_of(x)
    a, b = normalize_axis(dim1, rank), normalize_axis(dim2, rank)

    def source(*i: Any) -> list[Any]:
        rest = iter(i[:-1])
        along = {a: i[-1] + max(-offset, 0), b: i[-1] + max(offset, 0)}
        return [along[k] if k in along else next(rest) for k in range(rank)]

    return gather_elements(context, "diagonal", x, source)


@converter(aten.unfold.default)
def unfold(context: Context, x: Expr, dim: int, size: int, step: int) -> Expr:
    axis = normalize_axis(dim, rank_of(x))
    if rank_of(x) == 0:
        return context.reshape(x, context.shape)

    def source(*i: Any) -> list[Any]:
        return [v * step + i[-1] if k == axis else v for k, v in enumerate(i[:-1])]

    return gather_elements(context, "unfold", x, source)


@converter(aten.as_strided.default)
def as_strided(context: Context, x: Expr, size: Any, stride: Sequence[Any], offset: Any) -> Expr:
    """Strides over the contiguous layout that compiled tensors have."""
    total: Any = tirx.IntImm("int64", 1)
    for n in shape_of(x):
        total = total * n
    flat = context.reshape(x, [total])

    def source(*i: Any) -> list[Any]:
        place = int64(offset or 0)
        for v, st in zip(i, stride, strict=True):
            place = place + v * int64(st)
        return [place]

    return gather_elements(context, "as_strided", flat, source)
