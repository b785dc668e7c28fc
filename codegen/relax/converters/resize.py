"""Interpolation, with the coordinates of torch's own kernels.

Coordinates follow ATen/native/UpSample.h: ``area_pixel_compute_source_index`` for the linear and
cubic modes, ``nearest_neighbor_compute_source_index`` and its exact variant for the nearest ones.
Scales are computed in float32 as there, so that rounding picks the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, rank_of, shape_of
from graphopt.codegen.relax.dtypes import FLOATS, arithmetic_dtype
from graphopt.codegen.relax.registry import converter, register_converter
from graphopt.codegen.relax.symbols import known

aten = torch.ops.aten


def _ratio(source: Any, target: Any, scale: float | None, wide: str) -> Any:
    """Source pixels per target pixel: 1 / scale where the user gave one, the sizes' ratio else."""
    if scale is not None and scale > 0:
        return s.constant(float(np.dtype(wide).type(1.0 / scale)), wide)
    if known(source) is not None and known(target) is not None:
        number = np.dtype(wide).type
        return s.constant(float(number(known(source)) / number(known(target))), wide)
    return s.cast(source, wide) / s.cast(target, wide)


def _aligned_ratio(source: Any, target: Any, wide: str) -> Any:
    """(source - 1) / (target - 1), zero for a single target pixel."""
    one = tirx.IntImm("int64", 1)
    ratio = s.cast(source - one, wide) / s.cast(tirx.max(target - one, one), wide)
    return tirx.Select(target > one, ratio, s.constant(0, wide))


def _scales(size: Any, given: Any, rank: int) -> list[float | None]:
    """The scale factors that torch hands to its kernels: those of the user, not the sizes' ratio."""
    if given is None:
        return [None] * rank
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    return values or [None] * rank


# -- nearest ---------------------------------------------------------------------------------------


def _nearest(context: Context, x: Expr, scales: Sequence[float | None], exact: bool) -> Expr:
    plane, shape = context.plane(rank_of(x), len(scales)), context.shape
    sizes, targets = shape_of(x)[plane], shape[plane]

    def source(o: Any, size: Any, target: Any, scale: float | None) -> Any:
        if context.symbols.same(size, target) and not exact and scale is None:
            return o
        position = s.cast(o, "float32")
        if exact:
            position = position + s.constant(0.5, "float32")
        place = tirx.Cast("int64", tirx.floor(position * _ratio(size, target, scale, "float32")))
        return tirx.min(place, size - 1)

    def define(data: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Any:
            place = [source(*a) for a in zip(index[plane], sizes, targets, scales, strict=True)]
            return data(*index[: plane.start], *place, *index[plane.stop :])

        return te.compute(shape, element, name="resize_nearest")

    return context.kernel("resize_nearest", [x], define)


def _register_nearest(rank: int) -> None:
    for exact, prefix in ((False, "upsample_nearest"), (True, "_upsample_nearest_exact")):
        packet = getattr(aten, f"{prefix}{rank}d")

        def by_list(context: Context, x: Expr, size: Any, factors: Any, exact: bool = exact) -> Expr:
            return _nearest(context, x, _scales(size, factors, rank), exact)

        def by_size(context: Context, x: Expr, size: Any, *factors: Any, exact: bool = exact) -> Expr:
            return _nearest(context, x, list(factors), exact)

        register_converter(packet.vec, by_list)
        register_converter(packet.default, by_size)


for _rank in (1, 2, 3):
    _register_nearest(_rank)


# -- linear ----------------------------------------------------------------------------------------


def _linear(context: Context, x: Expr, scales: Sequence[float | None], align_corners: bool) -> Expr:
    plane, shape, dtype = context.plane(rank_of(x), len(scales)), context.shape, context.dtype
    sizes, targets = shape_of(x)[plane], shape[plane]
    wide = arithmetic_dtype(dtype)

    def taps(o: Any, size: Any, target: Any, scale: float | None) -> list[tuple[Any, Any]]:
        """The two source pixels and their weights."""
        zero, one = s.constant(0, wide), s.constant(1, wide)
        if align_corners:
            position = s.cast(o, wide) * _aligned_ratio(size, target, wide)
        else:
            half = s.constant(0.5, wide)
            position = (s.cast(o, wide) + half) * _ratio(size, target, scale, wide) - half
            position = tirx.Select(position < zero, zero, position)
        low = tirx.min(tirx.Cast("int64", position), size - 1)
        high = tirx.min(low + 1, size - 1)
        part = tirx.min(tirx.max(position - s.cast(low, wide), zero), one)
        return [(low, one - part), (high, part)]

    def define(data: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Any:
            axes = [taps(*a) for a in zip(index[plane], sizes, targets, scales, strict=True)]

            def blend(rest: Sequence[Any], chosen: tuple[Any, ...]) -> Any:
                if not rest:
                    return s.cast(data(*index[: plane.start], *chosen, *index[plane.stop :]), wide)
                (low, below), (high, above) = rest[0]
                return below * blend(rest[1:], (*chosen, low)) + above * blend(rest[1:], (*chosen, high))

            return s.cast(blend(axes, ()), dtype)

        return te.compute(shape, element, name="resize_linear")

    return context.kernel("resize_linear", [x], define)


# -- cubic -----------------------------------------------------------------------------------------


@converter(aten.upsample_bicubic2d.vec, dtypes=FLOATS)
def bicubic_by_list(context: Context, x: Expr, size: Any, align_corners: bool, factors: Any) -> Expr:
    return _cubic(context, x, _scales(size, factors, 2), align_corners)


@converter(aten.upsample_bicubic2d.default, dtypes=FLOATS)
def bicubic(context: Context, x: Expr, size: Any, align_corners: bool, *factors: Any) -> Expr:
    return _cubic(context, x, list(factors), align_corners)


def _cubic(context: Context, x: Expr, scales: Sequence[float | None], align_corners: bool) -> Expr:
    """Keys' cubic convolution, a = -0.75, over the four nearest pixels of each axis."""
    sizes, shape, dtype = shape_of(x)[2:], context.shape, context.dtype
    wide = arithmetic_dtype(dtype)

    def number(value: float) -> Any:
        return s.constant(value, wide)

    def inner(t: Any) -> Any:
        return (number(1.25) * t - number(2.25)) * t * t + number(1)

    def outer(t: Any) -> Any:
        return ((number(-0.75) * t + number(3.75)) * t - number(6)) * t + number(3)

    def taps(o: Any, size: Any, target: Any, scale: float | None) -> list[tuple[Any, Any]]:
        if align_corners:
            position = s.cast(o, wide) * _aligned_ratio(size, target, wide)
        else:
            position = (s.cast(o, wide) + number(0.5)) * _ratio(size, target, scale, wide) - number(0.5)
        floor = tirx.floor(position)
        t = position - floor
        weights = [outer(t + number(1)), inner(t), inner(number(1) - t), outer(number(2) - t)]
        base = tirx.Cast("int64", floor)
        return [
            (tirx.max(tirx.min(base + k - 1, size - 1), tirx.IntImm("int64", 0)), weight)
            for k, weight in enumerate(weights)
        ]

    def define(data: te.Tensor) -> te.Tensor:
        def element(n: Any, c: Any, y: Any, x_: Any) -> Any:
            rows, columns = (taps(*a) for a in zip((y, x_), sizes, shape[2:], scales, strict=True))
            total: Any = number(0)
            for row, weight in rows:
                line: Any = number(0)
                for column, factor in columns:
                    line = line + s.cast(data(n, c, row, column), wide) * factor
                total = total + line * weight
            return s.cast(total, dtype)

        return te.compute(shape, element, name="resize_cubic")

    return context.kernel("resize_cubic", [x], define)


def _register_linear(packet: Any, rank: int) -> None:
    def by_list(context: Context, x: Expr, size: Any, align_corners: bool, factors: Any) -> Expr:
        return _linear(context, x, _scales(size, factors, rank), align_corners)

    def by_size(context: Context, x: Expr, size: Any, align_corners: bool, *factors: Any) -> Expr:
        return _linear(context, x, list(factors), align_corners)

    register: Callable[..., Any] = register_converter
    register(packet.vec, by_list, dtypes=FLOATS)
    register(packet.default, by_size, dtypes=FLOATS)


_register_linear(aten.upsample_linear1d, 1)
_register_linear(aten.upsample_bilinear2d, 2)
_register_linear(aten.upsample_trilinear3d, 3)
