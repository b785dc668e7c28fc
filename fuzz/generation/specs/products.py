"""Products of matrices, and attention."""

from __future__ import annotations

from graphopt.fuzz.generation.sketch import Shape, Sketch, Value
from graphopt.fuzz.generation.specs.spec import Spec, not_empty
from graphopt.fuzz.graphs import Argument, Ref

_WIDEST = 12


def _linear(s: Sketch, x: Value) -> Ref | None:
    return _linear_to(s, x.ref, x.shape[-1], s.size(1, _WIDEST), x.dtype)


def _linear_to(s: Sketch, x: Ref, inward: int, outward: int, dtype: str) -> Ref | None:
    weight = s.weight((outward, inward), dtype)
    bias = (s.weight((outward,), dtype),) if s.choices.chance(0.6) else ()
    return s.call("aten.linear.default", x, weight, *bias)


def _linear_back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
    if not shape or not shape[-1]:
        return None
    inward = s.size(1, _WIDEST)
    return _linear_to(s, s.input((*shape[:-1], inward), dtype), inward, shape[-1], dtype)


def _matmul(s: Sketch, x: Value) -> Ref | None:
    """Right or left operand, of any ranks that matmul takes."""
    width = s.size(1, _WIDEST)
    if x.rank == 1:
        return s.call("aten.matmul.default", x.ref, s.operand((x.shape[0], width), x.dtype))
    batch = x.shape[:-2] if s.choices.chance(0.6) else ()
    if s.choices.chance(0.25):
        return s.call("aten.matmul.default", x.ref, s.operand((x.shape[-1],), x.dtype))
    if s.choices.chance(0.3):
        return s.call("aten.matmul.default", s.operand((*batch, width, x.shape[-2]), x.dtype), x.ref)
    return s.call("aten.matmul.default", x.ref, s.operand((*batch, x.shape[-1], width), x.dtype))


def _product_back(operator: str, rank: int | None) -> Spec:
    """A product of two tensors of the same rank."""

    def grow(s: Sketch, x: Value) -> Ref | None:
        other = s.operand((*x.shape[:-2], x.shape[-1], s.size(1, _WIDEST)), x.dtype)
        return s.call(operator, x.ref, other)

    def back(s: Sketch, shape: Shape, dtype: str) -> Ref | None:
        if len(shape) < 2 or (rank is not None and len(shape) != rank):
            return None
        inner = s.size(1, _WIDEST)
        left = s.input((*shape[:-1], inner), dtype)
        return s.call(operator, left, s.operand((*shape[:-2], inner, shape[-1]), dtype))

    if operator == "aten.matmul.default":
        return Spec(operator, _matmul, "f", (1, 5), back, not_empty)
    return Spec(operator, grow, "f", (rank or 2, rank or 2), back, not_empty)


def _addmm(s: Sketch, x: Value) -> Ref | None:
    width = s.size(1, _WIDEST)
    bias = s.operand((width,) if s.choices.chance(0.7) else (x.shape[0], width), x.dtype)
    extra: dict[str, Argument] = {"beta": 0.5, "alpha": 2} if s.choices.chance(0.2) else {}
    return s.call("aten.addmm.default", bias, x.ref, s.operand((x.shape[1], width), x.dtype), **extra)


def _baddbmm(s: Sketch, x: Value) -> Ref | None:
    width = s.size(1, _WIDEST)
    bias = s.operand((x.shape[0], x.shape[1], width), x.dtype)
    return s.call("aten.baddbmm.default", bias, x.ref, s.operand((x.shape[0], x.shape[2], width), x.dtype))


def _einsum(s: Sketch, x: Value) -> Ref | None:
    batch, rows, inner = x.shape
    width = s.size(1, _WIDEST)
    equation, shape = s.choices.one_of(
        (
            ("bij,bjk->bik", (batch, inner, width)),
            ("bij,jk->bik", (inner, width)),
            ("bij,bkj->bki", (batch, width, inner)),
        )
    )
    return s.call("aten.einsum.default", equation, (x.ref, s.operand(shape, x.dtype)))


def _attention(s: Sketch, x: Value) -> Ref | None:
    """Queries ``x`` of (..., heads, positions, width) against keys and values of the same or fewer heads."""
    *batch, heads, rows, width = x.shape
    keys = rows if s.choices.chance(0.5) else s.size(1, 12)
    groups = [h for h in range(1, heads + 1) if heads % h == 0]
    few = s.choices.one_of(groups) if x.rank == 4 and s.choices.chance(0.4) else heads
    key = s.operand((*batch, few, keys, width), x.dtype)
    value = s.operand((*batch, few, keys, width if s.choices.chance(0.6) else s.size(1, 8)), x.dtype)
    extra: dict[str, Argument] = {"enable_gqa": True} if few != heads else {}
    if s.choices.chance(0.3):
        extra["scale"] = s.number(0.125, 1.0)
    positional: tuple[Argument, ...] = (x.ref, key, value)
    if keys == rows and s.choices.chance(0.3):
        positional += (None, 0.0, True)
    elif s.choices.chance(0.4):
        positional += (s.operand((rows, keys), x.dtype),)
    return s.call("aten.scaled_dot_product_attention.default", *positional, **extra)


PRODUCTS: tuple[Spec, ...] = (
    Spec("aten.linear.default", _linear, "f", (1, 5), _linear_back, not_empty),
    _product_back("aten.matmul.default", None),
    _product_back("aten.mm.default", 2),
    _product_back("aten.bmm.default", 3),
    Spec("aten.addmm.default", _addmm, "f", (2, 2), fits=not_empty),
    Spec("aten.baddbmm.default", _baddbmm, "f", (3, 3), fits=not_empty),
    Spec("aten.einsum.default", _einsum, "f", (3, 3), fits=not_empty),
    Spec("aten.scaled_dot_product_attention.default", _attention, "f", (3, 4), fits=not_empty),
)
