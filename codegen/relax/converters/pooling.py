"""Pooling over windows, fixed and adaptive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, dtype_of, rank_of
from graphopt.codegen.relax.dtypes import BUT_BFLOAT16, FLOATS, NUMBERS, arithmetic_dtype
from graphopt.codegen.relax.reducers import ARGMAX, MAX, SUM
from graphopt.codegen.relax.registry import converter, register_converter

aten = torch.ops.aten


def _per_axis(values: Any, rank: int, default: Sequence[int] | None = None) -> list[int]:
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    if not values and default is not None:
        return list(default)
    return [int(v) for v in (values * rank if len(values) == 1 else values)]


def _inside(positions: Sequence[Any], sizes: Sequence[Any]) -> Any:
    return tirx.all(*(c for p, size in zip(positions, sizes, strict=True) for c in (p >= 0, p < size)))


def _at(index: Sequence[Any], plane: slice, place: Sequence[Any]) -> list[Any]:
    """``index`` with its spatial part replaced."""
    return [*index[: plane.start], *place, *index[plane.stop :]]


# -- maximum ---------------------------------------------------------------------------------------


def _max_pool(rank: int) -> Callable[..., Expr]:
    def convert(
        context: Context, x: Expr, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
    ) -> Expr:
        sizes = _per_axis(kernel, rank)
        steps, pads, dilations = (
            _per_axis(stride, rank, sizes),
            _per_axis(padding, rank),
            _per_axis(dilation, rank),
        )
        plane, shape, dtype = context.plane(rank_of(x), rank), context.shape, dtype_of(x)

        def define(data: te.Tensor) -> te.Tensor:
            taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(sizes)]

            def element(*index: Any) -> Any:
                place = [o * st + t * d - p for o, st, t, d, p in
                         zip(index[plane], steps, taps, dilations, pads, strict=True)]  # fmt: skip
                value = tirx.if_then_else(
                    _inside(place, data.shape[plane]), data(*_at(index, plane, place)), s.lowest(dtype)
                )
                return MAX(value, axis=taps)

            return te.compute(shape, element, name="max_pool")

        return context.kernel("max_pool", [x], define)

    return convert


for _rank, _target in {1: aten.max_pool1d, 2: aten.max_pool2d, 3: aten.max_pool3d}.items():
    register_converter(_target.default, _max_pool(_rank), dtypes=NUMBERS)


@converter(aten.max_pool2d_with_indices.default, dtypes=NUMBERS & BUT_BFLOAT16)
def max_pool2d_with_indices(
    context: Context, x: Expr, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[Expr]:
    """The maxima and the flat position of each in its plane; the first of equals."""
    sizes = _per_axis(kernel, 2)
    steps, pads, dilations = _per_axis(stride, 2, sizes), _per_axis(padding, 2), _per_axis(dilation, 2)
    lead, shape, dtype = rank_of(x) - 2, context.shape, dtype_of(x)

    def define(data: te.Tensor) -> list[te.Tensor]:
        taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(sizes)]

        def element(*index: Any) -> Any:
            y, x_ = (o * st + t * d - p for o, st, t, d, p in
                     zip(index[lead:], steps, taps, dilations, pads, strict=True))  # fmt: skip
            inside = _inside([y, x_], data.shape[lead:])
            value = tirx.if_then_else(inside, data(*index[:lead], y, x_), s.lowest(dtype))
            # Padding must lose against a plane full of -inf as well.
            position = tirx.Select(inside, y * data.shape[lead + 1] + x_, tirx.IntImm("int64", 2**62))
            return ARGMAX((position, value), axis=taps)

        positions, values = te.compute(shape, element, name="max_pool")
        return [values, positions]

    return list(context.kernel("max_pool_indices", [x], define))


# -- average ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """The window of an average pooling, one entry an axis of the plane, and what it divides by."""

    sizes: Sequence[int]
    steps: Sequence[int]
    pads: Sequence[int]
    ceil_mode: bool
    count_include_pad: bool
    divisor: int | None

    def count(self, place: Sequence[Any], extents: Sequence[Any]) -> Any:
        """What the sum of the window at ``place`` of the result is divided by, for a plane of ``extents``."""
        if self.divisor is not None:
            return tirx.IntImm("int64", self.divisor)
        if not any(self.pads) and not self.ceil_mode:
            return tirx.IntImm("int64", prod(self.sizes))
        count: Any = tirx.IntImm("int64", 1)
        for o, step, k, pad, size in zip(place, self.steps, self.sizes, self.pads, extents, strict=True):
            first = o * step - pad
            if self.count_include_pad:
                count = count * (tirx.min(first + k, size + pad) - first)
            else:
                count = count * (tirx.min(first + k, size) - tirx.max(first, 0))
        return count


def average_window(
    rank: int,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Window:
    """The window that the arguments of ``aten::avg_poolNd`` say."""
    sizes = _per_axis(kernel, rank)
    steps, pads = _per_axis(stride, rank, sizes), _per_axis(padding, rank)
    return Window(sizes, steps, pads, ceil_mode, count_include_pad, divisor_override)


def _avg_pool(rank: int) -> Callable[..., Expr]:
    def convert(context: Context, x: Expr, *arguments: Any) -> Expr:
        window = average_window(rank, *arguments)
        plane, shape, dtype = context.plane(rank_of(x), rank), context.shape, context.dtype
        wide = arithmetic_dtype(dtype)

        def define(data: te.Tensor) -> te.Tensor:
            taps = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(window.sizes)]
            extents = data.shape[plane]

            def total(*index: Any) -> Any:
                place = [
                    o * st + t - p
                    for o, st, t, p in zip(index[plane], window.steps, taps, window.pads, strict=True)
                ]
                value = s.cast(data(*_at(index, plane, place)), wide)
                if any(window.pads) or window.ceil_mode:
                    value = tirx.if_then_else(_inside(place, extents), value, s.constant(0, wide))
                return SUM(value, axis=taps)

            sums = te.compute(shape, total, name="window_sum")

            def mean(*index: Any) -> Any:
                return s.cast(sums(*index) / s.cast(window.count(index[plane], extents), wide), dtype)

            return te.compute(shape, mean, name="avg_pool")

        return context.kernel("avg_pool", [x], define)

    return convert


for _rank, _target in {1: aten.avg_pool1d, 2: aten.avg_pool2d, 3: aten.avg_pool3d}.items():
    register_converter(_target.default, _avg_pool(_rank), dtypes=FLOATS)


# -- adaptive --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bin:
    """The input positions that one output averages: [first(o), last(o)), at most ``longest``."""

    first: Callable[[Any], Any]
    last: Callable[[Any], Any]
    longest: Any


def _bin(context: Context, size: Any, out: Any) -> _Bin:
    """Bin o is [o·size // out, ⌈(o + 1)·size / out⌉), in its simplest form."""
    one = tirx.IntImm("int64", 1)
    if context.symbols.same(out, one):
        return _Bin(lambda _: tirx.IntImm("int64", 0), lambda _: size, size)
    if context.symbols.same(tirx.floormod(size, out), 0):
        step = context.symbols.analyzer.simplify(tirx.floordiv(size, out))
        return _Bin(lambda o: o * step, lambda o: (o + one) * step, step)
    return _Bin(
        lambda o: tirx.floordiv(o * size, out),
        lambda o: tirx.floordiv((o + one) * size + out - one, out),
        tirx.floordiv(size + out - one, out) + one,
    )


def _adaptive(rank: int) -> Callable[..., Expr]:
    def convert(context: Context, x: Expr, output_size: Any) -> Expr:
        plane, shape, dtype = context.plane(rank_of(x), rank), context.shape, context.dtype
        wide = arithmetic_dtype(dtype)

        def define(data: te.Tensor) -> te.Tensor:
            bins = [_bin(context, n, o) for n, o in zip(data.shape[plane], shape[plane], strict=True)]
            taps = [te.reduce_axis((0, b.longest), f"k{i}") for i, b in enumerate(bins)]

            def total(*index: Any) -> Any:
                outputs = index[plane]
                place = [b.first(o) + t for o, t, b in zip(outputs, taps, bins, strict=True)]
                inside = tirx.all(*(p < b.last(o) for o, p, b in zip(outputs, place, bins, strict=True)))
                inside = context.symbols.analyzer.simplify(inside)
                value = s.cast(data(*_at(index, plane, place)), wide)
                return SUM(tirx.if_then_else(inside, value, s.constant(0, wide)), axis=taps)

            sums = te.compute(shape, total, name="bin_sum")

            def mean(*index: Any) -> Any:
                count: Any = tirx.IntImm("int64", 1)
                for o, b in zip(index[plane], bins, strict=True):
                    count = count * (b.last(o) - b.first(o))
                return s.cast(sums(*index) / s.cast(count, wide), dtype)

            return te.compute(shape, mean, name="adaptive_avg_pool")

        return context.kernel("adaptive_avg_pool", [x], define)

    return convert


_ADAPTIVE = {
    1: [aten.adaptive_avg_pool1d.default],
    2: [aten.adaptive_avg_pool2d.default, aten._adaptive_avg_pool2d.default],
    3: [aten.adaptive_avg_pool3d.default, aten._adaptive_avg_pool3d.default],
}
for _rank, _targets in _ADAPTIVE.items():
    for _overload in _targets:
        register_converter(_overload, _adaptive(_rank), dtypes=FLOATS)
