"""Operators that reduce, normalise or order along axes."""

from __future__ import annotations

from graphopt.fuzz.generation.sketch import Shape, Sketch, Value
from graphopt.fuzz.generation.specs.spec import Spec, back_of, keeping, not_empty
from graphopt.fuzz.graphs import Argument, Ref

_MANY = (1, 6)


def _axes(s: Sketch, x: Value) -> tuple[int, ...]:
    first = s.axis(x.rank)
    second = s.axis(x.rank)
    if (first - second) % x.rank == 0 or s.choices.chance(0.6):
        return (first,)
    return (first, second)


def _over_axes(operator: str, kinds: str = "f", **keywords: Argument) -> Spec:
    """A reduction over one or two axes."""

    def grow(s: Sketch, x: Value) -> Ref | None:
        return s.call(operator, x.ref, _axes(s, x), s.choices.chance(0.5), **keywords)

    def back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
        if dtype not in ("float32", "float64", "float16", "bfloat16") or len(shape) > 4:
            return None
        ones = [i for i, n in enumerate(shape) if n == 1]
        length = s.size(2, 6)
        if ones and s.choices.chance(0.5):
            axis = s.choices.one_of(ones)
            source = (*shape[:axis], length, *shape[axis + 1 :])
            return s.call(operator, s.input(source, dtype), (axis,), True, **keywords)
        axis = s.choices.integer(0, len(shape))
        source = (*shape[:axis], length, *shape[axis:])
        return s.call(operator, s.input(source, dtype), (axis,), False, **keywords)

    return Spec(operator, grow, kinds, _MANY, back, not_empty)


def _over_axis(operator: str, kinds: str = "f") -> Spec:
    """A reduction over one axis."""

    def grow(s: Sketch, x: Value) -> Ref | None:
        return s.call(operator, x.ref, s.axis(x.rank), s.choices.chance(0.5))

    return Spec(operator, grow, kinds, _MANY, fits=not_empty)


def _spread(operator: str) -> Spec:
    """A variance or a standard deviation, along an axis that has one."""

    def grow(s: Sketch, x: Value) -> Ref | None:
        long = [i for i, n in enumerate(x.shape) if n > 1]
        if not long:
            return None
        axis = s.choices.one_of(long)
        correction = s.choices.integer(0, 1)
        return s.call(operator, x.ref, (axis,), correction=correction, keepdim=s.choices.chance(0.5))

    return Spec(operator, grow, "f", _MANY, fits=not_empty)


def _whole(operator: str, kinds: str = "f") -> Spec:
    return Spec(operator, lambda s, x: s.call(operator, x.ref), kinds, fits=not_empty)


def _norm(s: Sketch, x: Value) -> Ref | None:
    order = s.choices.one_of((2.0, 1.0, float("inf")))
    return s.call("aten.linalg_vector_norm.default", x.ref, order, (s.axis(x.rank),), s.choices.chance(0.5))


def _along(operator: str, kinds: str = "f") -> Spec:
    """An operator along one axis that keeps the shape."""
    return keeping(operator, lambda s, x: (s.axis(x.rank),), kinds, _MANY)


def _cumulative(operator: str) -> Spec:
    def grow(s: Sketch, x: Value) -> Ref | None:
        return s.call(operator, x.ref, s.axis(x.rank))

    return Spec(operator, grow, "f", _MANY, back_of(grow, "f", _MANY))


def _topk(s: Sketch, x: Value) -> Ref | None:
    axis = s.axis(x.rank)
    return s.call("aten.topk.default", x.ref, s.size(1, x.shape[axis]), axis)


def _sort(s: Sketch, x: Value) -> Ref | None:
    return s.call("aten.sort.default", x.ref, s.axis(x.rank), s.choices.chance(0.5))


def _layer_norm(s: Sketch, x: Value) -> Ref | None:
    axes = 1 if x.rank == 1 or s.choices.chance(0.7) else 2
    shape = x.shape[-axes:]
    weights: tuple[Argument, ...] = s.choices.one_of(((), (True,), (True, True)))
    given = tuple(s.weight(shape, x.dtype) for _ in weights)
    if given and s.choices.chance(0.5):
        return s.call("aten.layer_norm.default", x.ref, shape, *given, *(None,) * (2 - len(given)), 1e-3)
    return s.call("aten.layer_norm.default", x.ref, shape, *given)


def _rms_norm(s: Sketch, x: Value) -> Ref | None:
    weight = s.weight((x.shape[-1],), x.dtype) if s.choices.chance(0.7) else None
    epsilon = s.choices.one_of((1e-5, 1e-3, None))
    return s.call("aten.rms_norm.default", x.ref, (x.shape[-1],), weight, epsilon)


def _batch_norm(s: Sketch, x: Value) -> Ref | None:
    shape = (x.shape[1],)
    affine = tuple(s.weight(shape, x.dtype) if s.choices.chance(0.7) else None for _ in range(2))
    mean = s.constant(shape, x.dtype)
    variance = s.constant(shape, x.dtype, "positive")
    return s.call("aten.batch_norm.default", x.ref, *affine, mean, variance, False, 0.1, 1e-5, False)


def _group_norm(s: Sketch, x: Value) -> Ref | None:
    channels = x.shape[1]
    groups = s.choices.one_of([g for g in range(1, channels + 1) if channels % g == 0])
    affine = tuple(s.weight((channels,), x.dtype) for _ in range(2)) if s.choices.chance(0.7) else ()
    return s.call("aten.group_norm.default", x.ref, groups, *affine)


def _has_channels(x: Value) -> bool:
    """More than one element a channel and image, so that a deviation is not zero by construction."""
    return not_empty(x) and x.tensor[0, 0].numel() > 1


REDUCTIONS: tuple[Spec, ...] = (
    _over_axes("aten.sum.dim_IntList", "fi"),
    _over_axes("aten.mean.dim"),
    _over_axes("aten.amax.default", "fi"),
    _over_axes("aten.amin.default", "fi"),
    _over_axes("aten.logsumexp.default"),
    _over_axis("aten.prod.dim_int"),
    _over_axis("aten.max.dim"),
    _over_axis("aten.min.dim"),
    _over_axis("aten.argmax.default", "fi"),
    _over_axis("aten.argmin.default", "fi"),
    _over_axis("aten.all.dim", "b"),
    _over_axis("aten.any.dim", "b"),
    _spread("aten.var.correction"),
    _spread("aten.std.correction"),
    Spec("aten.linalg_vector_norm.default", _norm, "f", _MANY, fits=not_empty),
    _whole("aten.sum.default", "fi"),
    _whole("aten.mean.default"),
    _whole("aten.max.default", "fi"),
    _whole("aten.min.default", "fi"),
)

NORMALISATIONS: tuple[Spec, ...] = (
    _along("aten.softmax.int"),
    _along("aten.log_softmax.int"),
    Spec("aten.layer_norm.default", _layer_norm, "f", _MANY, back_of(_layer_norm, "f", _MANY), not_empty),
    Spec("aten.rms_norm.default", _rms_norm, "f", _MANY, back_of(_rms_norm, "f", _MANY), not_empty),
    Spec("aten.batch_norm.default", _batch_norm, "f", (2, 5), back_of(_batch_norm, "f", (2, 5)), not_empty),
    Spec("aten.group_norm.default", _group_norm, "f", (3, 5), fits=_has_channels),
    _cumulative("aten.cumsum.default"),
    _cumulative("aten.cumprod.default"),
    Spec("aten.topk.default", _topk, "fi", _MANY, fits=not_empty),
    Spec("aten.sort.default", _sort, "fi", _MANY, fits=not_empty),
)
