"""Reading and writing at positions that tensors hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import te, tirx
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import (
    Context,
    Expr,
    Unsupported,
    dtype_of,
    normalize_axis,
    rank_of,
    shape_of,
)
from graphopt.codegen.relax.converters.pointwise import convert_dtype
from graphopt.codegen.relax.dtypes import ALL, NUMBERS, arithmetic_dtype
from graphopt.codegen.relax.elementwise import is_tensor, load, scalar
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.symbols import int64, known

aten = torch.ops.aten


def wrapped(position: Any, size: Any) -> Any:
    """A position counted from the front; negative ones count from the end."""
    position = s.cast(position, "int64")
    return tirx.Select(position < 0, position + size, position)


# -- reading ---------------------------------------------------------------------------------------


@converter(aten.embedding.default)
def embedding(context: Context, table: Expr, indices: Expr, *_: Any) -> Expr:
    shape = context.shape

    def define(rows: te.Tensor, places: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *i: rows(s.cast(places(*i[:-1]), "int64"), i[-1]), name="embedding")

    return context.kernel("embedding", [table, indices], define)


@converter(aten.index_select.default)
def index_select(context: Context, x: Expr, dim: int, indices: Expr) -> Expr:
    axis, shape = normalize_axis(dim, rank_of(x)), context.shape
    if rank_of(x) == 0:
        return context.reshape(x, [])

    def define(data: te.Tensor, places: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            place = s.cast(places(i[axis]) if rank_of(indices) else places(), "int64")
            return data(*i[:axis], place, *i[axis + 1 :])

        return te.compute(shape, element, name="index_select")

    return context.kernel("index_select", [x, indices], define)


@converter(aten.gather.default)
def gather(context: Context, x: Expr, dim: int, indices: Expr, _sparse: bool) -> Expr:
    if rank_of(x) == 0:
        x = context.reshape(x, [1])
        return context.reshape(x, context.shape) if rank_of(indices) == 0 else _take_first(context, x)
    axis, shape, size = normalize_axis(dim, rank_of(x)), context.shape, shape_of(x)[dim]

    def define(data: te.Tensor, places: te.Tensor) -> te.Tensor:
        return te.compute(
            shape,
            lambda *i: data(*i[:axis], wrapped(places(*i), size), *i[axis + 1 :]),
            name="gather",
        )

    return context.kernel("gather", [x, indices], define)


def _take_first(context: Context, x: Expr) -> Expr:
    shape = context.shape
    return context.kernel(
        "gather", [x], lambda data: te.compute(shape, lambda *_: data(tirx.IntImm("int64", 0)), name="gather")
    )


@converter(aten.take.default)
def take(context: Context, x: Expr, indices: Expr) -> Expr:
    total: Any = tirx.IntImm("int64", 1)
    for size in shape_of(x):
        total = total * size
    flat, shape = context.reshape(x, [total]), context.shape

    def define(data: te.Tensor, places: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *i: data(wrapped(places(*i), total)), name="take")

    return context.kernel("take", [flat, indices], define)


class _Advanced:
    """How ``x[i0, :, i1, …]`` maps positions of the result to positions of ``x``.

    The broadcast axes of the indices stand where the first index stands if the indexed axes are
    neighbours, and in front of the result otherwise (as in numpy).
    """

    def __init__(self, context: Context, x: Expr, indices: Sequence[Expr | None]) -> None:
        self.sizes = shape_of(x)
        self.indices = list(indices) + [None] * (len(self.sizes) - len(indices))
        self.axes = [k for k, index in enumerate(self.indices) if index is not None]
        self.tensors = [index for index in self.indices if index is not None]
        if any(dtype_of(t) in ("bool", "uint8") for t in self.tensors):
            raise Unsupported("indexing with a mask: the result's size depends on data")
        self.rank = max(rank_of(t) for t in self.tensors)
        neighbours = self.axes == list(range(self.axes[0], self.axes[-1] + 1))
        self.first = self.axes[0] if neighbours else 0

    def place(self, index: Sequence[Any], loaded: Callable[[int, Sequence[Any]], Any]) -> list[Any]:
        """The position in ``x`` for ``index`` of the result.

        Args:
            loaded: ``(which index tensor, position in the broadcast index)`` -> its element.
        """
        chosen = index[self.first : self.first + self.rank]
        rest = iter([*index[: self.first], *index[self.first + self.rank :]])
        which = iter(range(len(self.tensors)))
        return [
            next(rest) if k not in self.axes else wrapped(loaded(next(which), chosen), self.sizes[k])
            for k in range(len(self.sizes))
        ]


@converter(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(context: Context, x: Expr, indices: Sequence[Expr | None]) -> Expr:
    if all(i is None for i in indices):
        return x
    advanced, shape = _Advanced(context, x, indices), context.shape

    def define(data: te.Tensor, *places: te.Tensor) -> te.Tensor:
        return te.compute(
            shape, lambda *i: data(*advanced.place(i, lambda k, at: load(places[k], at))), name="index"
        )

    return context.kernel("index", [x, *advanced.tensors], define)


# -- writing ---------------------------------------------------------------------------------------


def copy_into(target: Any, source: Any, shape: Sequence[Any]) -> None:
    """Writes the loop nest that copies one buffer into another."""
    with block("copy", list(shape)) as index:
        T.buffer_store(target, source[tuple(index)], list(index))


class block:
    """A loop nest over ``extents`` around one block; enters with the block's axes.

    The result is written in an order that matters, so the loops must not be reordered: all axes of
    an ``ordered`` block are declared opaque.
    """

    def __init__(self, name: str, extents: Sequence[Any], *, ordered: bool = False) -> None:
        self.name, self.extents, self.ordered = name, list(extents), ordered
        self.frames: list[Any] = []

    def __enter__(self) -> list[Any]:
        # Without a loop around it the block would be the function's root, which schedules look inside.
        extents = self.extents or [int64(1)]
        grid = T.grid(*extents)
        self.frames.append(grid)
        found = grid.__enter__()
        loops = [found] if isinstance(found, tirx.Var) else list(found)
        frame = T.sblock(self.name)
        self.frames.append(frame)
        frame.__enter__()
        axis = T.axis.opaque if self.ordered else T.axis.spatial
        axes = [axis(extent, loop) for extent, loop in zip(extents, loops, strict=True)]
        return axes[: len(self.extents)]

    def __exit__(self, *error: Any) -> None:
        for frame in reversed(self.frames):
            frame.__exit__(*error)


def _combine(how: str) -> Callable[[Any, Any], Any]:
    return {
        "set": lambda old, new: new,
        "sum": lambda old, new: old + new,
        "prod": lambda old, new: old * new,
        "amax": s.maximum,
        "amin": s.minimum,
    }[how]


def scatter_into(
    context: Context,
    name: str,
    x: Expr,
    operands: Sequence[Expr],
    extents: Sequence[Any],
    write: Callable[..., tuple[Any, list[Any]]],
    how: str = "set",
) -> Expr:
    """Emits a copy of ``x`` with updates written one after the other.

    Args:
        operands: tensors that ``write`` reads.
        extents: the updates' index space; a later position wins over an earlier one.
        write: ``(index, *operand buffers) -> (value, position in x)``.
        how: ``set``, ``sum``, ``prod``, ``amax`` or ``amin`` with the element that is there.
    """
    shape, dtype = shape_of(x), dtype_of(x)
    combine = _combine(how)
    wide = arithmetic_dtype(dtype)
    if how != "set" and wide == "float32" != dtype:
        # Half types round once, after the last update, and not after each.
        x = convert_dtype(context.retyped(shape, wide), x)
        result = scatter_into(context, name, x, operands, extents, write, how)
        return convert_dtype(context.retyped(shape, dtype), result)

    def define(data: Any, *rest: Any) -> None:
        *buffers, result = rest
        copy_into(result, data, shape)
        with block("update", extents, ordered=True) as position:
            value, place = write(position, *buffers)
            if how != "set":
                value = s.cast(combine(s.cast(result[tuple(place)], wide), s.cast(value, wide)), dtype)
            T.buffer_store(result, s.cast(value, dtype), place)

    return context.loops(name, [x, *operands], [(shape, dtype)], define)[0]


def _as_vector(context: Context, x: Expr) -> Expr:
    return context.reshape(x, [1]) if rank_of(x) == 0 else x


def _scatter(context: Context, x: Expr, dim: int, indices: Expr, source: Any, how: str) -> Expr:
    original = shape_of(x)
    x, indices = _as_vector(context, x), _as_vector(context, indices)
    axis, size = normalize_axis(dim, rank_of(x)), shape_of(x)[dim]
    tensor = _as_vector(context, source) if is_tensor(source) else None

    def write(i: Sequence[Any], places: Any, *values: Any) -> tuple[Any, list[Any]]:
        value = values[0][tuple(i)] if values else scalar(source, dtype_of(x))
        return value, [*i[:axis], wrapped(places[tuple(i)], size), *i[axis + 1 :]]

    operands = [indices] if tensor is None else [indices, tensor]
    result = scatter_into(context, f"scatter_{how}", x, operands, shape_of(indices), write, how)
    return context.reshape(result, original)


@converter(aten.scatter.src, aten.scatter.value)
def scatter(context: Context, x: Expr, dim: int, indices: Expr, source: Any) -> Expr:
    return _scatter(context, x, dim, indices, source, "set")


@converter(aten.scatter_add.default)
def scatter_add(context: Context, x: Expr, dim: int, indices: Expr, source: Expr) -> Expr:
    return _scatter(context, x, dim, indices, source, "sum")


@converter(aten.scatter.reduce, aten.scatter.value_reduce, dtypes=NUMBERS)
def scatter_reduce_old(context: Context, x: Expr, dim: int, indices: Expr, source: Any, reduce: str) -> Expr:
    return _scatter(context, x, dim, indices, source, {"add": "sum", "multiply": "prod"}[reduce])


@converter(aten.scatter_reduce.two, dtypes=NUMBERS)
def scatter_reduce(
    context: Context, x: Expr, dim: int, indices: Expr, source: Expr, reduce: str, include_self: bool
) -> Expr:
    if reduce == "mean" or not include_self:
        raise Unsupported(f"scatter_reduce with {reduce!r} and include_self={include_self}")
    return _scatter(context, x, dim, indices, source, reduce)


@converter(aten.index_put.default, aten._unsafe_index_put.default)
def index_put(
    context: Context, x: Expr, indices: Sequence[Expr | None], values: Expr, *accumulate: bool
) -> Expr:
    fakes = [v for v in context.values[1] if v is not None]
    if any(f.dtype == torch.bool for f in fakes):
        return _masked_put(context, x, indices, values, bool(accumulate and accumulate[0]))
    advanced = _Advanced(context, x, indices)
    broadcast = _broadcast_shape(advanced.tensors)
    rest = [size for k, size in enumerate(shape_of(x)) if k not in advanced.axes]
    extents = [*rest[: advanced.first], *broadcast, *rest[advanced.first :]]

    def write(i: Sequence[Any], *buffers: Any) -> tuple[Any, list[Any]]:
        *places, new = buffers
        place = advanced.place(i, lambda k, at: places[k][tuple(_aligned(places[k].shape, at))])
        return new[tuple(_aligned(new.shape, i))], place

    how = "sum" if accumulate and accumulate[0] else "set"
    return scatter_into(context, "index_put", x, [*advanced.tensors, values], extents, write, how)


def _masked_put(
    context: Context, x: Expr, indices: Sequence[Expr | None], values: Expr, accumulate: bool
) -> Expr:
    """``x[mask] = value`` with one value: a select.  Several values would need the mask's count."""
    if len(indices) != 1 or context.values[2].numel() != 1 or indices[0] is None:
        raise Unsupported("assignment through a mask of more than one value")
    mask, shape, dtype = indices[0], context.shape, context.dtype
    lead = rank_of(mask)
    wide = "int8" if dtype == "bool" else dtype

    def define(data: te.Tensor, flags: te.Tensor, value: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            new, old = s.cast(value(*([0] * rank_of(values))), wide), s.cast(data(*i), wide)
            chosen = tirx.Select(flags(*i[:lead]), old + new if accumulate else new, old)
            return s.cast(chosen, dtype)

        return te.compute(shape, element, name="masked_put")

    return context.kernel("masked_put", [x, mask, values], define)


def _aligned(shape: Sequence[Any], position: Sequence[Any]) -> list[Any]:
    offset = len(position) - len(shape)
    return [0 if known(size) == 1 else position[offset + k] for k, size in enumerate(shape)]


def _broadcast_shape(tensors: Sequence[Expr]) -> list[Any]:
    rank = max(rank_of(t) for t in tensors)
    shape: list[Any] = [tirx.IntImm("int64", 1)] * rank
    for tensor in tensors:
        sizes = shape_of(tensor)
        for k, size in enumerate(sizes):
            if known(size) != 1:
                shape[rank - len(sizes) + k] = size
    return shape


@converter(aten.index_copy.default)
def index_copy(context: Context, x: Expr, dim: int, indices: Expr, source: Expr) -> Expr:
    return _along(context, "index_copy", x, dim, indices, source, "set", 1)


@converter(aten.index_add.default)
def index_add(context: Context, x: Expr, dim: int, indices: Expr, source: Expr, alpha: Any) -> Expr:
    return _along(context, "index_add", x, dim, indices, source, "sum", alpha)


@converter(aten.index_fill.int_Scalar)
def index_fill(context: Context, x: Expr, dim: int, indices: Expr, value: Any) -> Expr:
    return _along(context, "index_fill", x, dim, indices, value, "set", 1)


def _along(
    context: Context, name: str, x: Expr, dim: int, indices: Expr, source: Any, how: str, alpha: Any
) -> Expr:
    original = shape_of(x)
    x, indices = _as_vector(context, x), _as_vector(context, indices)
    axis, sizes, dtype = normalize_axis(dim, rank_of(x)), shape_of(x), dtype_of(x)
    tensor = _as_vector(context, source) if is_tensor(source) else None
    extents = [*sizes[:axis], *shape_of(indices), *sizes[axis + 1 :]]

    def write(i: Sequence[Any], places: Any, *values: Any) -> tuple[Any, list[Any]]:
        value = values[0][tuple(i)] if values else scalar(source, dtype)
        if alpha != 1:
            value = value * scalar(alpha, dtype)
        return value, [*i[:axis], wrapped(places[i[axis]], sizes[axis]), *i[axis + 1 :]]

    operands = [indices] if tensor is None else [indices, tensor]
    return context.reshape(scatter_into(context, name, x, operands, extents, write, how), original)


@converter(aten.slice_scatter.default)
def slice_scatter(context: Context, x: Expr, source: Expr, dim: int, start: Any, end: Any, step: Any) -> Expr:
    sizes = shape_of(x)
    axis = normalize_axis(dim, len(sizes))
    first = int64(0 if start is None else start)
    first = tirx.Select(first < 0, first + sizes[axis], first)
    first = context.symbols.analyzer.simplify(tirx.max(tirx.min(first, sizes[axis]), int64(0)))
    count, stride = shape_of(source)[axis], int64(step)

    def define(data: te.Tensor, part: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            place = tirx.floordiv(i[axis] - first, stride)
            inside = tirx.all(
                i[axis] >= first, place < count, tirx.EQ(tirx.floormod(i[axis] - first, stride), int64(0))
            )
            return tirx.if_then_else(inside, part(*i[:axis], place, *i[axis + 1 :]), data(*i))

        return te.compute(sizes, element, name="slice_scatter")

    return context.kernel("slice_scatter", [x, source], define)


@converter(aten.select_scatter.default)
def select_scatter(context: Context, x: Expr, source: Expr, dim: int, index: Any) -> Expr:
    sizes = shape_of(x)
    axis = normalize_axis(dim, len(sizes))
    place = wrapped(int64(index), sizes[axis])

    def define(data: te.Tensor, part: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            return tirx.if_then_else(tirx.EQ(i[axis], place), part(*i[:axis], *i[axis + 1 :]), data(*i))

        return te.compute(sizes, element, name="select_scatter")

    return context.kernel("select_scatter", [x, source], define)


@converter(aten.copy.default, dtypes=ALL)
def copy(context: Context, x: Expr, source: Expr, _non_blocking: bool) -> Expr:
    shape, dtype = context.shape, context.dtype

    def define(data: te.Tensor) -> te.Tensor:
        return te.compute(shape, lambda *i: s.cast(load(data, i), dtype), name="copy")

    return context.kernel("copy", [source], define)
