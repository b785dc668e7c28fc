"""Padding in every mode of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax.context import Context, Expr, dtype_of, rank_of, shape_of
from graphopt.codegen.relax.elementwise import scalar
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.symbols import int64

aten = torch.ops.aten


def _before(pad: Sequence[Any], rank: int) -> list[Any]:
    """What stands in front of each axis; torch lists the pairs from the last axis on."""
    before = [int64(0)] * rank
    for k in range(len(pad) // 2):
        before[rank - 1 - k] = int64(pad[2 * k])
    return before


def pad_constant(context: Context, x: Expr, pad: Sequence[Any], value: Any) -> Expr:
    sizes, shape, dtype = shape_of(x), context.shape, dtype_of(x)
    before = _before(pad, len(sizes))
    touched = [len(sizes) - 1 - k for k in range(len(pad) // 2)]

    def define(data: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Any:
            place = [v - b for v, b in zip(i, before, strict=True)]
            inside = [c for k in touched for c in (place[k] >= 0, place[k] < sizes[k])]
            if not inside:
                return data(*place)
            return tirx.if_then_else(tirx.all(*inside), data(*place), scalar(value, dtype))

        return te.compute(shape, element, name="pad")

    return context.kernel("pad", [x], define)


def _pad_by(
    context: Context, name: str, x: Expr, pad: Sequence[Any], source: Callable[[Any, Any], Any]
) -> Expr:
    sizes, shape = shape_of(x), context.shape
    before = _before(pad, len(sizes))
    touched = {len(sizes) - 1 - k for k in range(len(pad) // 2)}

    def define(data: te.Tensor) -> te.Tensor:
        return te.compute(
            shape,
            lambda *i: data(
                *(source(v - before[k], sizes[k]) if k in touched else v for k, v in enumerate(i))
            ),
            name=name,
        )

    return context.kernel(name, [x], define)


def _reflected(place: Any, size: Any) -> Any:
    """Mirrored at the border pixels, which are not repeated."""
    place = tirx.abs(place)
    return tirx.Select(place < size, place, int64(2) * (size - 1) - place)


def _clamped(place: Any, size: Any) -> Any:
    return tirx.max(tirx.min(place, size - 1), int64(0))


_MODES: dict[str, Callable[[Any, Any], Any]] = {
    "reflect": _reflected,
    "replicate": _clamped,
    "circular": tirx.floormod,
}


@converter(aten.constant_pad_nd.default)
def constant_pad_nd(context: Context, x: Expr, pad: Sequence[Any], value: Any) -> Expr:
    return pad_constant(context, x, pad, value)


@converter(aten.pad.default)
def pad(context: Context, x: Expr, pads: Sequence[Any], mode: str, value: Any) -> Expr:
    if mode == "constant":
        return pad_constant(context, x, pads, 0 if value is None else value)
    return _pad_by(context, f"pad_{mode}", x, pads, _MODES[mode])


@converter(aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default)
def reflection_pad(context: Context, x: Expr, pads: Sequence[Any]) -> Expr:
    return _pad_by(context, "pad_reflect", x, pads, _reflected)


@converter(aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default)
def replication_pad(context: Context, x: Expr, pads: Sequence[Any]) -> Expr:
    return _pad_by(context, "pad_replicate", x, pads, _clamped)


@converter(aten._pad_circular.default)
def pad_circular(context: Context, x: Expr, pads: Sequence[Any]) -> Expr:
    assert rank_of(x) >= len(pads) // 2
    return _pad_by(context, "pad_circular", x, pads, tirx.floormod)
