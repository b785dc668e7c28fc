"""Operators that move, repeat, join and pick elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.fuzz.generation.choices import shuffled
from graphopt.fuzz.generation.sketch import Shape, Sketch, Value
from graphopt.fuzz.generation.specs.spec import Spec, back_of, keeping, not_empty
from graphopt.fuzz.graphs import Ref

_END = 2**63 - 1
_MANY = (1, 6)


def factored(s: Sketch, elements: int) -> tuple[int, ...]:
    """Up to four sizes with a given product."""
    if elements == 0:
        return (0, s.size(1, 4))
    sizes = []
    rest = elements
    for _ in range(s.choices.integer(0, 3)):
        divisors = [d for d in range(1, rest + 1) if rest % d == 0]
        sizes.append(s.choices.one_of(divisors))
        rest //= sizes[-1]
    sizes.append(rest)
    return tuple(shuffled(s.choices, sizes))


def _reshape(operator: str) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        sizes = list(factored(s, x.tensor.numel()))
        if x.tensor.numel() and s.choices.chance(0.4):
            sizes[s.choices.integer(0, len(sizes) - 1)] = -1
        return s.call(operator, x.ref, tuple(sizes))

    def back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
        return s.call(operator, s.input(factored(s, math.prod(shape)), dtype), shape)

    return Spec(operator, grow, "fib", back=back)


def _flatten(s: Sketch, x: Value) -> Ref | None:
    first = s.choices.integer(0, x.rank - 1)
    last = s.choices.integer(first, x.rank - 1)
    return s.call("aten.flatten.using_ints", x.ref, first, last if s.choices.chance(0.5) else last - x.rank)


def _permute(s: Sketch, x: Value) -> Ref | None:
    axes = shuffled(s.choices, range(x.rank))
    return s.call(
        "aten.permute.default", x.ref, tuple(a - x.rank if s.choices.chance(0.2) else a for a in axes)
    )


def _permute_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    if len(shape) < 2:
        return None
    axes = shuffled(s.choices, range(len(shape)))
    source = [0] * len(shape)
    for to, axis in enumerate(axes):
        source[axis] = shape[to]
    return s.call("aten.permute.default", s.input(tuple(source), dtype), tuple(axes))


def _transpose(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.transpose.int", x.ref, s.axis(x.rank), s.axis(x.rank))


def _turned(operator: str, ranks: tuple[int, int]) -> Spec:
    def back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
        if not ranks[0] <= len(shape) <= ranks[1]:
            return None
        return s.call(operator, s.input((*shape[:-2], shape[-1], shape[-2]), dtype))

    return Spec(operator, lambda s, x: s.call(operator, x.ref), "fib", ranks, back)


def _unsqueeze(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.unsqueeze.default", x.ref, s.axis(x.rank + 1))


def _unsqueeze_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    ones = [i for i, n in enumerate(shape) if n == 1]
    if not ones:
        return None
    axis = s.choices.one_of(ones)
    return s.call("aten.unsqueeze.default", s.input(shape[:axis] + shape[axis + 1 :], dtype), axis)


def _squeeze(s: Sketch, x: Value) -> Ref | None:
    ones = [i for i, n in enumerate(x.shape) if n == 1]
    axis = s.choices.one_of(ones) if ones and s.choices.chance(0.8) else s.axis(x.rank)
    return s.call("aten.squeeze.dim", x.ref, axis)


def _squeeze_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    if len(shape) >= 6:
        return None
    axis = s.choices.integer(0, len(shape))
    return s.call("aten.squeeze.dim", s.input((*shape[:axis], 1, *shape[axis:]), dtype), axis)


def _expand(s: Sketch, x: Value) -> Ref | None:
    sizes = [s.size(1, 5) if n == 1 else (-1 if s.choices.chance(0.5) else n) for n in x.shape]
    front = [s.size(1, 3)] if x.rank < 5 and s.choices.chance(0.3) else []
    return s.call("aten.expand.default", x.ref, (*front, *sizes))


def _expand_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    source = tuple(1 if n and s.choices.chance(0.5) else n for n in shape)
    return s.call("aten.expand.default", s.input(source, dtype), shape)


def _repeat(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.repeat.default", x.ref, tuple(s.size(1, 3) for _ in range(x.rank)))


def _tile(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.repeat_interleave.self_int", x.ref, s.size(1, 4), s.axis(x.rank))


def _cat(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    parts = [x.ref]
    for _ in range(s.choices.integer(1, 2)):
        shape = list(x.shape)
        if s.choices.chance(0.5):
            shape[axis] = s.size(1, 6)
        parts.append(s.operand(tuple(shape), x.dtype))
    return s.call("aten.cat.default", tuple(shuffled(s.choices, parts)), axis)


def _cat_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    long = [i for i, n in enumerate(shape) if n > 1]
    if not long:
        return None
    axis = s.choices.one_of(long)
    first = s.choices.integer(1, shape[axis] - 1)
    parts = [s.input((*shape[:axis], n, *shape[axis + 1 :]), dtype) for n in (first, shape[axis] - first)]
    return s.call("aten.cat.default", tuple(parts), axis)


def _stack(s: Sketch, x: Value) -> Ref | None:
    parts = [x.ref, *(s.operand(x.shape, x.dtype) for _ in range(s.choices.integer(1, 2)))]
    return s.call("aten.stack.default", tuple(parts), s.axis(x.rank + 1))


def _pieces(s: Sketch, total: int) -> tuple[int, ...]:
    cuts = sorted(s.choices.integer(0, total) for _ in range(s.choices.integer(1, 2)))
    return tuple(b - a for a, b in zip((0, *cuts), (*cuts, total), strict=True))


def _split(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    return s.call("aten.split.Tensor", x.ref, s.size(1, max(1, x.shape[axis])), axis)


def _split_with_sizes(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    return s.call("aten.split_with_sizes.default", x.ref, _pieces(s, x.shape[axis]), axis)


def _chunk(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.chunk.default", x.ref, s.size(1, 4), s.axis(x.rank))


def _unbind(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    return s.call("aten.unbind.int", x.ref, axis) if 0 < x.shape[axis] <= 8 else None


def _slice(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    length = x.shape[axis]
    start = s.choices.integer(0, max(0, length - 1))
    end = s.choices.one_of((_END, length, start + s.size(1, max(1, length - start))))
    step = s.size(1, 3) if s.choices.chance(0.3) else 1
    if s.choices.chance(0.3) and length:
        start -= length
    return s.call("aten.slice.Tensor", x.ref, axis, start, end, step)


def _slice_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    if not shape:
        return None
    axis = s.choices.integer(0, len(shape) - 1)
    start, rest = s.size(0, 3), s.size(0, 3)
    source = (*shape[:axis], start + shape[axis] + rest, *shape[axis + 1 :])
    return s.call("aten.slice.Tensor", s.input(source, dtype), axis, start, start + shape[axis])


def _select(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    length = x.shape[axis]
    return s.call("aten.select.int", x.ref, axis, s.choices.integer(-length, length - 1)) if length else None


def _select_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    if len(shape) >= 5:
        return None
    axis, length = s.choices.integer(0, len(shape)), s.size(1, 4)
    source = s.input((*shape[:axis], length, *shape[axis:]), dtype)
    return s.call("aten.select.int", source, axis, s.choices.integer(-length, length - 1))


def _flip(s: Sketch, x: Value) -> Ref | None:
    axes = [i for i in range(x.rank) if s.choices.chance(0.5)] or [s.axis(x.rank)]
    return s.call("aten.flip.default", x.ref, tuple(axes))


def _roll(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    return s.call("aten.roll.default", x.ref, (s.choices.integer(-3, 3),), (axis,))


def _padding(s: Sketch, axes: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(s.choices.integer(low, high) for _ in range(2 * axes))


def _pad(s: Sketch, x: Value) -> Ref | None:
    mode = s.choices.one_of(("constant", "reflect", "replicate"))
    if mode == "constant" or x.kind != "f" or x.rank < 3:
        widths = _padding(s, s.choices.integer(1, min(3, x.rank)), -1 if min(x.shape) > 2 else 0, 3)
        filler = s.number(-1.0, 1.0) if x.kind == "f" else s.choices.integer(0, 2)
        return s.call("aten.pad.default", x.ref, widths, "constant", filler)
    axes = min(x.rank - 2, 3)
    room = min(x.shape[-axes:]) - 1
    return s.call("aten.pad.default", x.ref, _padding(s, axes, 0, max(0, min(2, room))), mode)


def _triangle(operator: str) -> Spec:
    return keeping(operator, lambda s, x: (s.choices.integer(-2, 2),), "fi", (2, 6))


def _unfold(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    window = s.size(1, min(4, x.shape[axis])) if x.shape[axis] else 0
    return s.call("aten.unfold.default", x.ref, axis, window, s.size(1, 3)) if window else None


def _unflatten(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    sizes = [n for n in factored(s, x.shape[axis]) if x.shape[axis]]
    return s.call("aten.unflatten.int", x.ref, axis, tuple(sizes)) if len(sizes) > 1 else None


def _index_select(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    if not x.shape[axis]:
        return None
    index = s.leaf_of_indices((s.size(1, 6),), x.shape[axis])
    return s.call("aten.index_select.default", x.ref, axis, index)


def _gather(s: Sketch, x: Value) -> Ref | None:
    axis = s.choices.integer(0, x.rank - 1)
    if not x.shape[axis]:
        return None
    index = s.leaf_of_indices((*x.shape[:axis], s.size(1, 5), *x.shape[axis + 1 :]), x.shape[axis])
    return s.call("aten.gather.default", x.ref, axis, index)


def _index(s: Sketch, x: Value) -> Ref | None:
    shape: Sequence[int] = (s.size(1, 4),) if s.choices.chance(0.6) else (2, s.size(1, 3))
    return (
        s.call("aten.index.Tensor", x.ref, (s.leaf_of_indices(tuple(shape), x.shape[0]),))
        if x.shape[0]
        else None
    )


def _embedding(s: Sketch, x: Value) -> Ref | None:
    rows = s.weight((s.size(5, 20), s.size(2, 16)), "float32")
    return s.call("aten.embedding.default", rows, x.ref)


def _embedding_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    if len(shape) < 2 or dtype not in ("float32", "float16"):
        return None
    rows = s.size(2, 12)
    table = s.weight((rows, shape[-1]), dtype)
    return s.call("aten.embedding.default", table, s.leaf_of_indices(shape[:-1], rows, "input"))


def _is_index(x: Value) -> bool:
    return x.dtype in ("int64", "int32") and bool(((x.tensor >= 0) & (x.tensor < 5)).all())


def _pixel_shuffle(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.pixel_shuffle.default", x.ref, 2) if x.shape[-3] % 4 == 0 else None


def _pixel_unshuffle(s: Sketch, x: Value) -> Ref | None:
    fits = x.shape[-1] % 2 == 0 and x.shape[-2] % 2 == 0
    return s.call("aten.pixel_unshuffle.default", x.ref, 2) if fits else None


SHAPES: tuple[Spec, ...] = (
    _reshape("aten.reshape.default"),
    _reshape("aten.view.default"),
    Spec("aten.flatten.using_ints", _flatten, "fib", _MANY),
    Spec("aten.permute.default", _permute, "fib", (2, 6), _permute_back),
    Spec("aten.transpose.int", _transpose, "fib", _MANY),
    _turned("aten.t.default", (2, 2)),
    _turned("aten.mT.default", (2, 6)),
    Spec("aten.unsqueeze.default", _unsqueeze, "fib", (0, 5), _unsqueeze_back),
    Spec("aten.squeeze.dim", _squeeze, "fib", _MANY, _squeeze_back),
    Spec("aten.expand.default", _expand, "fib", _MANY, _expand_back, lambda x: 1 in x.shape),
    Spec("aten.unflatten.int", _unflatten, "fib", (1, 4)),
    Spec("aten.slice.Tensor", _slice, "fib", _MANY, _slice_back, not_empty),
    Spec("aten.select.int", _select, "fib", _MANY, _select_back),
)

JOINS: tuple[Spec, ...] = (
    Spec("aten.cat.default", _cat, "fib", _MANY, _cat_back),
    Spec("aten.stack.default", _stack, "fib", (0, 5)),
    Spec("aten.split.Tensor", _split, "fib", _MANY),
    Spec("aten.split_with_sizes.default", _split_with_sizes, "fib", _MANY),
    Spec("aten.chunk.default", _chunk, "fib", _MANY),
    Spec("aten.unbind.int", _unbind, "fib", _MANY),
    Spec("aten.repeat.default", _repeat, "fib", (1, 4)),
    Spec("aten.repeat_interleave.self_int", _tile, "fib", _MANY),
    Spec("aten.flip.default", _flip, "fib", _MANY, back_of(_flip, ranks=_MANY)),
    Spec("aten.roll.default", _roll, "fib", _MANY, back_of(_roll, ranks=_MANY)),
    Spec("aten.pad.default", _pad, "fi", (1, 5), fits=not_empty),
    _triangle("aten.tril.default"),
    _triangle("aten.triu.default"),
    Spec("aten.unfold.default", _unfold, "fi", (1, 4)),
    Spec("aten.pixel_shuffle.default", _pixel_shuffle, "f", (3, 5), fits=not_empty),
    Spec("aten.pixel_unshuffle.default", _pixel_unshuffle, "f", (3, 5), fits=not_empty),
)

INDEXING: tuple[Spec, ...] = (
    Spec("aten.index_select.default", _index_select, "fib", _MANY),
    Spec("aten.gather.default", _gather, "fib", _MANY, fits=not_empty),
    Spec("aten.index.Tensor", _index, "fib", _MANY),
    Spec("aten.embedding.default", _embedding, "i", (1, 3), _embedding_back, _is_index),
)
