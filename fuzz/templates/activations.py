"""Templates of the rules that put decomposed activations together."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from graphopt.fuzz.templates import Case, Tensor, template

X = (("b", 5),)
H = (Tensor(("b", 5), torch.float16),)
XY = (("b", 5), ("b", 5))

template(
    "silu",
    [
        Case("x * sigmoid", lambda w, x: x * torch.sigmoid(x), X),
        Case("sigmoid * x in half", lambda w, x: torch.sigmoid(x) * x, H),
    ],
    [
        Case("two values", lambda w, x, y: x * torch.sigmoid(y), XY),
        Case("the gate is an output", lambda w, x: ((s := torch.sigmoid(x)), x * s), X),
        Case("integers", lambda w, x: x * torch.sigmoid(x), (Tensor((3,), torch.int64),)),
    ],
)
template(
    "mish",
    [Case("x * tanh(softplus)", lambda w, x: x * torch.tanh(F.softplus(x)), X)],
    [Case("another beta", lambda w, x: x * torch.tanh(F.softplus(x, beta=2.0)), X)],
)
template(
    "gelu-erf",
    [
        Case("halved first", lambda w, x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), X),
        Case("constants of float32", lambda w, x: x * (torch.erf(x / 1.41421354) + 1) * 0.5, X),
        Case("factor inside", lambda w, x: x * (0.5 * (1 + torch.erf(x * 0.70710678))), H),
    ],
    [
        Case("sqrt(2) wrong in the 4th digit", lambda w, x: x * 0.5 * (1 + torch.erf(x / 1.4145)), X),
        Case("minus", lambda w, x: x * 0.5 * (torch.erf(x / math.sqrt(2)) - 1), X),
        Case("two values", lambda w, x, y: x * 0.5 * (1 + torch.erf(y / math.sqrt(2))), XY),
    ],
)
_C = math.sqrt(2 / math.pi)
template(
    "gelu-tanh",
    [
        Case("GPT-2", lambda w, x: 0.5 * x * (1 + torch.tanh(_C * (x + 0.044715 * torch.pow(x, 3.0)))), X),
        Case("products", lambda w, x: x * (0.5 * (torch.tanh((x + 0.044715 * (x * x * x)) * _C) + 1)), X),
        Case(
            "fast form", lambda w, x: 0.5 * x * (1 + torch.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x))), X
        ),
    ],
    [
        Case("square for cube", lambda w, x: 0.5 * x * (1 + torch.tanh(_C * (x + 0.044715 * x**2))), X),
        Case("another constant", lambda w, x: 0.5 * x * (1 + torch.tanh(_C * (x + 0.0447 * x**3))), X),
    ],
)
template(
    "hard-swish",
    [
        Case("Paddle", lambda w, x: x * torch.clamp(x + 3, 0, 6) / 6, (("b", 3, 4, 4),)),
        Case("times 1/6", lambda w, x: x * (torch.clamp(x + 3.0, 0.0, 6.0) * 0.16666667), X),
        Case("half", lambda w, x: x * (torch.clamp(x + 3.0, 0.0, 6.0) / 6.0), H),
        Case("other numbers", lambda w, x: x * torch.clamp(x + 2.5, 0.0, 5.0) / 4.0, X),
    ],
    [
        Case("clip from -1", lambda w, x: x * torch.clamp(x + 3, -1, 6) / 6, X),
        Case("two values", lambda w, x, y: x * torch.clamp(y + 3, 0, 6) / 6, XY),
        Case("the gate is an output", lambda w, x: ((g := torch.clamp(x + 3, 0, 6)), x * g / 6), X),
        Case("no upper bound", lambda w, x: x * torch.clamp(x + 3, 0) / 6, X),
    ],
)
template(
    "hard-swish-of-gate",
    [Case("x * hardsigmoid", lambda w, x: x * F.hardsigmoid(x), X)],
    [Case("two values", lambda w, x, y: x * F.hardsigmoid(y), XY)],
)
template(
    "hard-sigmoid",
    [
        Case("1/6", lambda w, x: torch.clamp(x / 6 + 0.5, 0.0, 1.0), X),
        Case("ONNX's default", lambda w, x: torch.clamp(x * 0.2 + 0.5, 0.0, 1.0), X),
    ],
    [
        Case("clip to 2", lambda w, x: torch.clamp(x * 0.2 + 0.5, 0.0, 2.0), X),
        Case("a slope per channel", lambda w, x: torch.clamp(x * w.a + 0.5, 0.0, 1.0), X, {"a": (5,)}),
    ],
)
template(
    "hard-sigmoid-of-clip",
    [Case("divided by 6", lambda w, x: torch.clamp(x + 3, 0, 6) / 6, X)],
    [
        Case("clip to 5", lambda w, x: torch.clamp(x + 3, 0, 5) / 6, X),
        Case("integers", lambda w, x: torch.clamp(x + 3, 0, 6) / 6, (Tensor((3,), torch.int64),)),
    ],
)
