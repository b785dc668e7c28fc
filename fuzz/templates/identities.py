"""Templates of the rules that remove what does nothing, and of those on numbers and clamps."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from graphopt.fuzz.templates import Case, Tensor, template

aten = torch.ops.aten
HALF, WIDE, INT = torch.float16, torch.float64, torch.int64
X = (("b", 3),)
ONE = torch.tensor(1.0)


def _half(*shape: int | str) -> Tensor:
    return Tensor(shape, HALF)


template(
    "inference-dropout",
    [
        Case("dropout", lambda w, x: F.dropout(x, 0.5, False), X),
        Case("feature dropout", lambda w, x: F.dropout2d(x, 0.5, False), (("b", 3, 4, 4),)),
    ],
    [Case("training", lambda w, x: F.dropout(x, 0.5, True), X)],
)
template(
    "no-dropout",
    [Case("probability 0", lambda w, x: F.dropout(x, 0.0, True), X)],
    [Case("probability 1/2", lambda w, x: F.dropout(x, 0.5, True), X)],
)
template(
    "copy",
    [
        Case("clone", lambda w, x: x.clone() + 1, X),
        Case("contiguous between permute and view", lambda w, x: x.t().contiguous().reshape(-1), ((2, 3),)),
    ],
    [Case("a copy with a sum", lambda w, x: x + x, X)],
)
template(
    "detach",
    [Case("detach", lambda w, x: x.detach() * 2, X)],
    [Case("no detach", lambda w, x: x * 2, X)],
)
template(
    "same-dtype-cast",
    [
        Case("float32", lambda w, x: x.to(torch.float32) * 2, X),
        Case("half", lambda w, x: aten._to_copy(x, dtype=HALF) * 2, (_half("b", 3),)),
    ],
    [
        Case("half to float32", lambda w, x: x.to(torch.float32), (_half("b", 3),)),
        Case("float32 to half", lambda w, x: x.to(HALF), X),
    ],
)
template(
    "lossless-round-trip",
    [
        Case("half via float32", lambda w, x: x.float().half() * 2, (_half("b", 3),)),
        Case("int32 via int64 to float", lambda w, x: x.long().float(), (Tensor((3,), torch.int32),)),
    ],
    [
        Case("float32 via half", lambda w, x: x.half().float(), X),
        Case("int64 via float32", lambda w, x: x.float().long(), (Tensor((3,), INT),)),
    ],
)
template(
    "add-zero",
    [
        Case("number", lambda w, x: x + 0, X),
        Case("integers", lambda w, x: x + 0, (Tensor((3,), INT),)),
        Case("on the left", lambda w, x: w.c + x, X, {"c": torch.zeros(1)}),
    ],
    [
        Case("makes it floating", lambda w, x: x + 0.0, (Tensor((3,), INT),)),
        Case("broadcasts", lambda w, x: x + w.c, ((3,),), {"c": torch.zeros(1, 1)}),
        Case("a factor", lambda w, x: torch.add(w.c, x, alpha=2), X, {"c": torch.zeros(())}),
    ],
)
template(
    "subtract-zero",
    [Case("number", lambda w, x: x - 0, X)],
    [Case("from zero", lambda w, x: w.c - x, X, {"c": torch.zeros(())})],
)
template(
    "unit-factor",
    [
        Case("times 1", lambda w, x: x * 1.0, X),
        Case("to the power 1", lambda w, x: x**1, X),
    ],
    [
        Case("nearly 1", lambda w, x: x * 1.0000002, X),
        Case("1 to the power x", lambda w, x: torch.pow(1.0, x), X),
        Case("makes it floating", lambda w, x: x * 1.0, (Tensor((3,), INT),)),
    ],
)
template(
    "unit-divisor",
    [Case("divided by 1", lambda w, x: x / 1, X)],
    [
        Case("integers become floating", lambda w, x: x / 1, (Tensor((3,), INT),)),
        Case("1 divided by x", lambda w, x: 1 / x, (Tensor(("b", 3), positive=True),)),
    ],
)
template(
    "uniform-identity",
    [
        Case("zeros", lambda w, x: x + w.c, X, {"c": torch.zeros(3)}),
        Case("ones", lambda w, x: w.c * x, X, {"c": torch.ones(1, 3)}),
    ],
    [
        Case("not all zero", lambda w, x: x + w.c, X, {"c": torch.tensor([0.0, 1e-7, 0.0])}),
        Case("zeros that multiply", lambda w, x: x * w.c, X, {"c": torch.zeros(3)}),
        Case("trainable", lambda w, x: x * w.c, X, {"c": Tensor((3,), trainable=True)}),
        Case("another dtype", lambda w, x: x * w.c, (_half("b", 3),), {"c": torch.ones(3)}),
        Case("ones of more rows", lambda w, x: x * w.c, ((1, 3),), {"c": torch.ones(4, 3)}),
    ],
)
template(
    "and-true",
    [Case("constant true", lambda w, x: (x > 0) & w.c, X, {"c": torch.tensor(True)})],
    [
        Case("constant false", lambda w, x: (x > 0) & w.c, X, {"c": torch.tensor([True, False, True])}),
        Case("or", lambda w, x: (x > 0) | w.c, X, {"c": torch.tensor(True)}),
    ],
)
template(
    "same-operands",
    [Case("maximum", lambda w, x: torch.maximum(x, x), X)],
    [Case("two values", lambda w, x, y: torch.maximum(x, y), (*X, *X))],
)
template(
    "factory-like",
    [
        Case("new_ones", lambda w, x: x + x.new_ones([3]), X),
        Case("new_full", lambda w, x: x + x.new_full([3], 2.5, dtype=HALF), X),
    ],
    [Case("ones of its own", lambda w, x: x + torch.ones([3]), X)],
)
template(
    "repeated",
    [
        Case("relu", lambda w, x: torch.relu(torch.relu(x)), X),
        Case("the inner one is an output too", lambda w, x: ((y := x.abs()), y.abs()), X),
    ],
    [Case("two different", lambda w, x: torch.relu(torch.abs(x)), X)],
)
template(
    "unbounded-clamp",
    [Case("infinite bounds", lambda w, x: torch.clamp(x, -float("inf"), float("inf")), X)],
    [Case("one bound", lambda w, x: torch.clamp(x, 0.0, float("inf")), X)],
)
template(
    "single-cat",
    [Case("one part", lambda w, x: torch.cat([x], 1) * 2, X)],
    [Case("the same twice", lambda w, x: torch.cat([x, x], 1), X)],
)
template(
    "empty-in-cat",
    [
        Case("legacy empty vector", lambda w, x: torch.cat([w.e, x, x], 1), X, {"e": torch.zeros(0)}),
        Case("empty along the axis", lambda w, x: torch.cat([x, x[:, :0]], 1), X),
    ],
    [
        Case(
            "decides the dtype", lambda w, x: torch.cat([w.e, x], 1), (_half("b", 3),), {"e": torch.zeros(0)}
        ),
        Case("nothing empty", lambda w, x: torch.cat([x[:, :1], x], 1), X),
    ],
)
template(
    "number-operand",
    [
        Case("0-d", lambda w, x: x * w.c, X, {"c": torch.tensor(1.4142135)}),
        Case("one element of rank 2", lambda w, x: x - w.c, X, {"c": torch.tensor([[0.3]])}),
        Case("0-d and half", lambda w, x: x * w.c, (_half("b", 3),), {"c": torch.tensor(0.5)}),
        Case("constant on the left", lambda w, x: w.c + x, X, {"c": torch.tensor([2.0])}),
    ],
    [
        Case("promotes half", lambda w, x: x * w.c, (_half("b", 3),), {"c": torch.tensor([0.5])}),
        Case(
            "promotes integers", lambda w, x: x * w.c, (Tensor((3,), torch.int32),), {"c": torch.tensor([2])}
        ),
        Case("adds an axis", lambda w, x: x * w.c, ((3,),), {"c": torch.tensor([[2.0]])}),
        Case("trainable", lambda w, x: x * w.c, X, {"c": Tensor((1,), trainable=True)}),
        Case("several elements", lambda w, x: x * w.c, X, {"c": torch.tensor([2.0, 2.0, 2.0])}),
        Case("constant minus x", lambda w, x: w.c - x, X, {"c": torch.tensor(2.0)}),
    ],
)
template(
    "square-root-power",
    [
        Case("power 1/2", lambda w, x: x**0.5, (Tensor(("b", 3), positive=True),)),
        Case("power -1/2", lambda w, x: x**-0.5, (Tensor(("b", 3), positive=True),)),
    ],
    [Case("power 1/3", lambda w, x: x ** (1 / 3), (Tensor(("b", 3), positive=True),))],
)
template(
    "reciprocal-square-root",
    [
        Case("1 / sqrt", lambda w, x: 1 / torch.sqrt(x), (Tensor(("b", 3), positive=True),)),
        Case(
            "constant / sqrt",
            lambda w, x: w.c / torch.sqrt(x),
            (Tensor(("b", 3), positive=True),),
            {"c": ONE},
        ),
    ],
    [
        Case("2 / sqrt", lambda w, x: w.c / torch.sqrt(x), (Tensor((3,), positive=True),), {"c": ONE * 2}),
        Case("integers", lambda w, x: torch.sqrt(x + 1).reciprocal(), (Tensor((3,), INT),)),
        Case("a shared root", lambda w, x: ((r := torch.sqrt(x)), 1 / r), (Tensor((3,), positive=True),)),
    ],
)
template(
    "canonical-clamp",
    [
        Case("relu6", lambda w, x: F.relu6(x * 4), X),
        Case("hardtanh", lambda w, x: F.hardtanh(x, -0.5, 0.25), X),
        Case("maximum with a constant", lambda w, x: torch.maximum(x, w.c), X, {"c": torch.tensor(0.5)}),
        Case("clamp with tensors", lambda w, x: torch.clamp(x, w.c, None), X, {"c": torch.tensor(0.5)}),
    ],
    [
        Case("a bound per channel", lambda w, x: torch.maximum(x, w.c), X, {"c": (3,)}),
        Case("a computed bound", lambda w, x, y: torch.maximum(x, y), (*X, *X)),
        Case("another dtype", lambda w, x: torch.clamp(x, w.c), (_half("b", 3),), {"c": torch.tensor([0.5])}),
    ],
)
template(
    "clamp-of-clamp",
    [
        Case("nested", lambda w, x: x.clamp(-1.0, 2.0).clamp(0.0, 6.0), X),
        Case("disjoint", lambda w, x: x.clamp(-1.0, 0.5).clamp(0.75, 6.0), X),
        Case("relu inside", lambda w, x: torch.relu(x).clamp(None, 0.5), X),
    ],
    [
        Case("crossed bounds", lambda w, x: x.clamp(1.0, -1.0).clamp(-2.0, 3.0), X),
        Case("shared", lambda w, x: ((y := x.clamp(-1.0, 0.5)), y.clamp(0.0, 1.0)), X),
    ],
)
template(
    "clamp-at-zero",
    [Case("lower bound 0", lambda w, x: x.clamp(0.0, None), X)],
    [
        Case("upper bound 0", lambda w, x: x.clamp(None, 0.0), X),
        Case("two bounds", lambda w, x: x.clamp(0.0, 1.0), X),
    ],
)
