"""Templates of the rules that put decomposed normalisations together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.fuzz.templates import Case, Tensor, template

aten = torch.ops.aten
X = (("b", "s", 8),)
H = (Tensor(("b", "s", 8), torch.float16),)


def _layer_norm(x: Any, eps: float = 1e-5, axes: tuple[int, ...] = (-1,)) -> Any:
    d = x - x.mean(axes, keepdim=True)
    return d / torch.sqrt((d * d).mean(axes, keepdim=True) + eps)


def _rms_norm(x: Any, eps: float = 1e-6, axis: int = -1) -> Any:
    return x * torch.rsqrt(x.pow(2).mean(axis, keepdim=True) + eps)


def _with_its_mean(x: Any) -> Any:
    mean = x.mean(-1, keepdim=True)
    d = x - mean
    return mean, d * torch.rsqrt((d * d).mean(-1, keepdim=True) + 1e-5)


def _second_moment_of(pick: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def forward(w: Any, x: Any) -> Any:
        d = x - x.mean(-1, keepdim=True)
        return d * torch.rsqrt(pick(x, d).pow(2).mean(-1, keepdim=True) + 1e-5)

    return forward


template(
    "layer-norm-core",
    [
        Case("ONNX before opset 17", lambda w, x: _layer_norm(x), X),
        Case("two axes", lambda w, x: _layer_norm(x, axes=(1, 2)), ((3, 4, 8),)),
        Case("with pow and rsqrt", _second_moment_of(lambda x, d: d), X),
    ],
    [
        Case("moment about zero", _second_moment_of(lambda x, d: x), X),
        Case("over a leading axis", lambda w, x: _layer_norm(x, axes=(1,)), X),
        Case("mean shared with an output", lambda w, x: _with_its_mean(x), X),
        Case("moment over another axis", lambda w, x: _two_axes(x), ((3, 8, 8),)),
    ],
)


def _two_axes(x: Any) -> Any:
    d = x - x.mean(-1, keepdim=True)
    return d / torch.sqrt((d * d).mean(-2, keepdim=True) + 1e-5)


template(
    "layer-norm-weight",
    [Case("weight", lambda w, x: F.layer_norm(x, (8,)) * w.g, X, {"g": (8,)})],
    [
        Case("one number", lambda w, x: F.layer_norm(x, (8,)) * w.g, X, {"g": (1,)}),
        Case("has a weight", lambda w, x: F.layer_norm(x, (8,), w.g) * w.g, X, {"g": (8,)}),
        Case("another value per row", lambda w, x: F.layer_norm(x, (8,)) * w.g, ((2, 8),), {"g": (2, 8)}),
    ],
)
template(
    "layer-norm-bias",
    [Case("bias", lambda w, x: w.b + F.layer_norm(x, (8,), w.g), X, {"g": (8,), "b": (8,)})],
    [
        Case("has a bias", lambda w, x: F.layer_norm(x, (8,), w.g, w.b) + w.b, X, {"g": (8,), "b": (8,)}),
        Case(
            "times alpha",
            lambda w, x: torch.add(F.layer_norm(x, (8,), w.g), w.b, alpha=2),
            X,
            {"g": (8,), "b": (8,)},
        ),
    ],
)
template(
    "rms-norm-core",
    [
        Case("Llama", lambda w, x: _rms_norm(x), X),
        Case("division", lambda w, x: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6), X),
        Case("half", lambda w, x: _rms_norm(x), H),
    ],
    [
        Case("over a leading axis", lambda w, x: _rms_norm(x, axis=1), X),
        Case("cube for square", lambda w, x: x * torch.rsqrt(x.pow(4).mean(-1, keepdim=True) + 1e-6), X),
        Case(
            "eps per channel",
            lambda w, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + w.e),
            X,
            {"e": Tensor((8,), positive=True)},
        ),
        Case("two values", lambda w, x, y: y * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6), (*X, *X)),
    ],
)
template(
    "rms-norm-weight",
    [Case("weight", lambda w, x: w.g * F.rms_norm(x, (8,), None, 1e-6), X, {"g": (8,)})],
    [
        Case("wider weight", lambda w, x: w.g * F.rms_norm(x, (8,), None, 1e-3), H, {"g": (8,)}),
        Case("one number", lambda w, x: F.rms_norm(x, (8,), None, 1e-6) * 2.0, X),
    ],
)
template(
    "norm-in-wider-dtype",
    [
        Case("rms", lambda w, x: F.rms_norm(x.float(), (8,), None, 1e-6).half(), H),
        Case("layer", lambda w, x: F.layer_norm(x.float(), (8,)).half(), H),
    ],
    [
        Case("not cast back", lambda w, x: F.rms_norm(x.float(), (8,), None, 1e-6).bfloat16(), H),
        Case("in float64", lambda w, x: F.rms_norm(x.double(), (8,), None, 1e-6).half(), H),
        Case("default eps", lambda w, x: F.rms_norm(x.float(), (8,)).half(), H),
    ],
)
template(
    "functional-layer-norm",
    [
        Case(
            "with affine",
            lambda w, x: aten.native_layer_norm(x, [8], w.g, w.b, 1e-5)[0],
            X,
            {"g": (8,), "b": (8,)},
        )
    ],
    [Case("the mean is used", lambda w, x: aten.native_layer_norm(x, [8], None, None, 1e-5)[:2], X)],
)
