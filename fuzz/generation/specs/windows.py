"""Convolutions, pooling and resizing of (batch, channels, *space)."""

from __future__ import annotations

from graphopt.fuzz.generation.sketch import Shape, Sketch, Value
from graphopt.fuzz.generation.specs.spec import Spec, not_empty
from graphopt.fuzz.graphs import Argument, Ref

_CHANNELS = 12


def _groups(s: Sketch, channels: int) -> int:
    if not s.choices.chance(0.35):
        return 1
    return s.choices.one_of([g for g in range(1, channels + 1) if channels % g == 0])


def _window(s: Sketch, sizes: Shape, padded: bool = True) -> tuple[Shape, Shape, Shape, Shape]:
    """Kernel, stride, padding and dilation that leave at least one position an axis."""
    kernel, stride, padding, dilation = [], [], [], []
    for n in sizes:
        pad = s.choices.integer(0, 2) if padded else 0
        spread = s.size(1, 2) if s.choices.chance(0.25) else 1
        widest = (n + 2 * pad - 1) // spread + 1
        kernel.append(s.size(1, max(1, min(5, widest))))
        stride.append(s.size(1, 3))
        padding.append(pad)
        dilation.append(spread)
    return tuple(kernel), tuple(stride), tuple(padding), tuple(dilation)


def _conv(rank: int) -> Spec:
    operator = f"aten.conv{rank}d.default"

    def grow(s: Sketch, x: Value) -> Ref | None:
        kernel, *rest = _window(s, x.shape[2:])
        groups = _groups(s, x.shape[1])
        outward = groups * s.size(1, max(1, _CHANNELS // groups))
        weight = s.weight((outward, x.shape[1] // groups, *kernel), x.dtype)
        bias = s.weight((outward,), x.dtype) if s.choices.chance(0.5) else None
        return s.call(operator, x.ref, weight, bias, *rest, groups)

    def back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
        if len(shape) != rank + 2 or not shape[1]:
            return None
        kernel, stride, padding, source = [], [], [], []
        for n in shape[2:]:
            k, step = s.size(1, 4), s.size(1, 3)
            pad = s.choices.integer(0, k // 2)
            kernel.append(k)
            stride.append(step)
            padding.append(pad)
            source.append((n - 1) * step + k - 2 * pad)
        if min(source) < 1:
            return None
        inward = s.size(1, 8)
        weight = s.weight((shape[1], inward, *kernel), dtype)
        bias = s.weight((shape[1],), dtype) if s.choices.chance(0.5) else None
        x = s.input((shape[0], inward, *source), dtype)
        return s.call(operator, x, weight, bias, tuple(stride), tuple(padding))

    return Spec(operator, grow, "f", (rank + 2, rank + 2), back, not_empty)


def _conv_padding(s: Sketch, x: Value) -> Ref | None:
    kernel = s.choices.one_of(((1, 1), (3, 3), (3, 1), (1, 5)))  # even kernels cannot be centred
    weight = s.weight((s.size(1, _CHANNELS), x.shape[1], *kernel), x.dtype)
    mode = s.choices.one_of(("same", "valid"))
    return s.call("aten.conv2d.padding", x.ref, weight, None, (1, 1), mode)


def _conv_transpose(rank: int, operator: str) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        groups = _groups(s, x.shape[1])
        kernel = tuple(s.size(1, 4) for _ in range(rank))
        stride = tuple(s.size(1, 3) for _ in range(rank))
        padding = tuple(s.choices.integer(0, (k - 1) // 2) for k in kernel)
        extra = tuple(s.choices.integer(0, n - 1) for n in stride)
        outward = s.size(1, 6)
        weight = s.weight((x.shape[1], outward, *kernel), x.dtype)
        bias = s.weight((outward * groups,), x.dtype) if s.choices.chance(0.5) else None
        return s.call(operator, x.ref, weight, bias, stride, padding, extra, groups)

    return Spec(operator, grow, "f", (rank + 2, rank + 2), fits=not_empty)


def _pool(operator: str, rank: int, average: bool) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        kernel, stride, _, dilation = _window(s, x.shape[-rank:], padded=False)
        padding = tuple(s.choices.integer(0, k // 2) for k in kernel)
        ceil = s.choices.chance(0.25)
        if average:
            return s.call(operator, x.ref, kernel, stride, padding, ceil, s.choices.chance(0.5))
        return s.call(operator, x.ref, kernel, stride, padding, dilation, ceil)

    def back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
        if len(shape) != rank + 2:
            return None
        kernel = tuple(s.size(1, 3) for _ in range(rank))
        stride = tuple(s.size(1, 3) for _ in range(rank))
        space = tuple((n - 1) * t + k for n, t, k in zip(shape[2:], stride, kernel, strict=True))
        return s.call(operator, s.input((*shape[:2], *space), dtype), kernel, stride)

    return Spec(operator, grow, "f", (rank + 1, rank + 2), back, not_empty)


def _adaptive(operator: str, rank: int) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        return s.call(operator, x.ref, tuple(s.size(1, max(1, n)) for n in x.shape[-rank:]))

    return Spec(operator, grow, "f", (rank + 1, rank + 2), fits=not_empty)


def _resize(operator: str, *attributes: Argument) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        if s.choices.chance(0.5):
            size = tuple(s.size(1, 2 * n) for n in x.shape[2:])
            return s.call(operator, x.ref, size, *attributes, None)
        factor = s.choices.one_of((2.0, 0.5, 1.5))
        return s.call(operator, x.ref, None, *attributes, (factor,) * (x.rank - 2))

    return Spec(operator, grow, "f", (4, 4), fits=not_empty)


WINDOWS: tuple[Spec, ...] = (
    _conv(2),
    _conv(1),
    _conv(3),
    Spec("aten.conv2d.padding", _conv_padding, "f", (4, 4), fits=not_empty),
    _conv_transpose(2, "aten.conv_transpose2d.input"),
    _conv_transpose(1, "aten.conv_transpose1d.default"),
    _pool("aten.max_pool2d.default", 2, average=False),
    _pool("aten.avg_pool2d.default", 2, average=True),
    _pool("aten.max_pool1d.default", 1, average=False),
    _pool("aten.avg_pool1d.default", 1, average=True),
    _adaptive("aten.adaptive_avg_pool2d.default", 2),
    _adaptive("aten.adaptive_avg_pool1d.default", 1),
    _resize("aten.upsample_nearest2d.vec"),
    _resize("aten.upsample_bilinear2d.vec", False),
)
