"""Templates of the rules on attention and rotary embedding."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.fuzz.templates import Case, Tensor, template

aten = torch.ops.aten
Q = ("b", 4, "s", 8)
QKV = (Q, Q, Q)
MASK = (1, 1, "s", "s")
KV = ("b", 2, "s", 8)


def _attend(q: Any, k: Any, v: Any, mask: Any = None, scale: float = 0.3, axis: int = -1) -> Any:
    scores = torch.matmul(q, k.transpose(2, 3)) * scale
    scores = scores if mask is None else scores + mask
    return torch.matmul(torch.softmax(scores, axis), v)


def _nan_guard(q: Any, k: Any, v: Any, mask: Any) -> Any:
    p = torch.softmax(torch.matmul(q, k.transpose(2, 3)) + mask, -1)
    return torch.matmul(torch.where(torch.isnan(p), 0.0, p), v)


def _score_guard(q: Any, k: Any, v: Any, mask: Any) -> Any:
    scores = torch.matmul(q, k.transpose(2, 3)) + mask
    p = torch.softmax(scores, -1)
    seen = torch.any(torch.logical_not(scores == -math.inf), -1, True)
    return torch.matmul(torch.where(torch.logical_not(seen), torch.zeros_like(p), p), v)


template(
    "eager-attention",
    [
        Case("mask", lambda w, q, k, v, m: _attend(q, k, v, m), (*QKV, MASK)),
        Case("no scale, no mask", lambda w, q, k, v: torch.matmul(torch.softmax(q @ k.mT, -1), v), QKV),
        Case(
            "divided, two masks",
            lambda w, q, k, v, m, n: torch.matmul(torch.softmax(q @ k.mT / 3.0 + m + n, -1), v),
            (*QKV, MASK, (4, "s", "s")),
        ),
        Case(
            "keys come transposed",
            lambda w, q, k, v: torch.matmul(torch.softmax(q @ k, -1), v),
            ((2, 4, 5, 8), (2, 4, 8, 6), (2, 4, 6, 7)),
        ),
        Case("guard against NaN", lambda w, q, k, v, m: _nan_guard(q, k, v, m), (*QKV, MASK)),
        Case("guard on the scores", lambda w, q, k, v, m: _score_guard(q, k, v, m), (*QKV, MASK)),
        Case(
            "softmax in float32",
            lambda w, q, k, v: torch.matmul(torch.softmax(q @ k.mT * 0.3, -1, dtype=torch.float32).half(), v),
            (Tensor((2, 4, 5, 8), torch.float16),) * 3,
        ),
        Case(
            "three axes",
            lambda w, q, k, v: torch.bmm(torch.softmax(torch.bmm(q, k.mT), -1), v),
            (("b", 5, 8),) * 3,
        ),
    ],
    [
        Case("softmax over queries", lambda w, q, k, v: _attend(q, k, v, axis=2), ((2, 4, 5, 8),) * 3),
        Case(
            "a scale per head",
            lambda w, q, k, v: torch.matmul(torch.softmax(q @ k.mT * w.s, -1), v),
            QKV,
            {"s": (4, 1, 1)},
        ),
        Case(
            "the probabilities are an output too",
            lambda w, q, k, v: ((p := torch.softmax(q @ k.mT, -1)), torch.matmul(p, v)),
            QKV,
        ),
        Case("keys shared by the batch", lambda w, q, k, v: _attend(q, k, v), (Q, (1, 4, "s", 8), Q)),
        Case("mask of one axis", lambda w, q, k, v, m: _attend(q, k, v, m), (*QKV, ("s",))),
        Case(
            "the mask adds heads",
            lambda w, q, k, v, m: _attend(q, k, v, m),
            ((2, 1, 5, 8), (2, 1, 5, 8), (2, 4, 5, 8), (4, 5, 5)),
        ),
    ],
)


def _sdpa(q: Any, k: Any, v: Any, **options: Any) -> Any:
    return F.scaled_dot_product_attention(q, k, v, **options)


template(
    "scaled-operands",
    [
        Case("half of the scale on each", lambda w, q, k, v: _sdpa(q * 0.5, k * 0.5, v, scale=1.0), QKV),
        Case("divided query", lambda w, q, k, v: _sdpa(q / 4.0, k, v, scale=0.5), QKV),
        Case(
            "scaled before a permute",
            lambda w, q, k, v: _sdpa(q, (k * 0.5).permute(0, 2, 1, 3), v, scale=1.0),
            ((2, 4, 5, 8), (2, 5, 4, 8), (2, 4, 5, 8)),
        ),
    ],
    [
        Case("default scale", lambda w, q, k, v: _sdpa(q * 0.5, k, v), QKV),
        Case("a factor a channel", lambda w, q, k, v: _sdpa(q * w.a, k, v, scale=1.0), QKV, {"a": (8,)}),
        Case(
            "the scaled query is an output too",
            lambda w, q, k, v: ((a := q * 0.5), _sdpa(a, k, v, scale=1.0)),
            QKV,
        ),
    ],
)


def _repeat(x: Any, n: int, axis: int = 2) -> Any:
    b, h, s, d = x.shape
    sizes = [b, h, s, d]
    sizes.insert(axis, n)
    return x.unsqueeze(axis).expand(sizes).reshape(b, h * n, s, d)


template(
    "grouped-queries",
    [
        Case("repeat_kv", lambda w, q, k, v: _sdpa(q, _repeat(k, 2), _repeat(v, 2), scale=0.3), (Q, KV, KV)),
        Case(
            "one head for all",
            lambda w, q, k, v: _sdpa(q, _repeat(k, 4), _repeat(v, 4)),
            (Q, ("b", 1, "s", 8), ("b", 1, "s", 8)),
        ),
        Case(
            "repeat_interleave",
            lambda w, q, k, v: _sdpa(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)),
            (Q, KV, KV),
        ),
    ],
    [
        Case(
            "blocks of heads in turn",
            lambda w, q, k, v: _sdpa(q, _repeat(k, 2, 1), _repeat(v, 2, 1)),
            (Q, KV, KV),
        ),
        Case("keys only", lambda w, q, k, v: _sdpa(q, _repeat(k, 2), v), (Q, KV, Q)),
        Case(
            "the repeated keys are an output too",
            lambda w, q, k, v: ((r := _repeat(k, 2)), _sdpa(q, r, _repeat(v, 2))),
            (Q, KV, KV),
        ),
        Case(
            "positions are repeated",
            lambda w, q, k, v: _sdpa(q, k.repeat_interleave(2, 2), v.repeat_interleave(2, 2)),
            (Q, Q, Q),
        ),
    ],
)

X = ("b", 2, "s", 8)
ANGLES = ("s", 8)


def _rotate_half(x: Any, size: int = 8) -> Any:
    return torch.cat((-aten.slice(x, 3, size // 2, size), aten.slice(x, 3, 0, size // 2)), -1)


def _pairs(x: Any) -> Any:
    return torch.stack((-aten.slice(x, 3, 1, 8, 2), aten.slice(x, 3, 0, 8, 2)), -1).flatten(-2)


template(
    "rotate-half",
    [
        Case("Hugging Face", lambda w, x, c, s: x * c + _rotate_half(x) * s, (X, ANGLES, ANGLES)),
        Case(
            "angles per batch",
            lambda w, x, c, s: _rotate_half(x) * s + c * x,
            (X, ("b", 1, "s", 8), ("b", 1, "s", 8)),
        ),
    ],
    [
        Case(
            "minus on the other half",
            lambda w, x, c, s: x * c + torch.cat((aten.slice(x, 3, 4, 8), -aten.slice(x, 3, 0, 4)), -1) * s,
            (X, ANGLES, ANGLES),
        ),
        Case(
            "halves not exchanged",
            lambda w, x, c, s: x * c + torch.cat((-aten.slice(x, 3, 0, 4), aten.slice(x, 3, 4, 8)), -1) * s,
            (X, ANGLES, ANGLES),
        ),
        Case(
            "unequal parts",
            lambda w, x, c, s: x * c + torch.cat((-aten.slice(x, 3, 3, 8), aten.slice(x, 3, 0, 3)), -1) * s,
            (X, ANGLES, ANGLES),
        ),
        Case(
            "angles wider than x",
            lambda w, x, c, s: x * c + _rotate_half(x) * s,
            ((1, 2, 5, 8), (3, 2, 5, 8), (3, 2, 5, 8)),
        ),
        Case(
            "angles of half the width",
            lambda w, x, c, s: x * c + _rotate_half(x) * s,
            (X, ("s", 1), ("s", 1)),
        ),
    ],
)


def _split(x: Any, c: Any, s: Any, sign: int = 1) -> Any:
    a, b = aten.slice(x, 3, 0, 4), aten.slice(x, 3, 4, 8)
    return torch.cat((a * c - b * s, b * c + a * s) if sign > 0 else (b * c - a * s, a * c + b * s), -1)


HALF_ANGLES = ("s", 4)
template(
    "rotate-half-split",
    [Case("ONNX", lambda w, x, c, s: _split(x, c, s), (X, HALF_ANGLES, HALF_ANGLES))],
    [Case("halves exchanged", lambda w, x, c, s: _split(x, c, s, -1), (X, HALF_ANGLES, HALF_ANGLES))],
)
template(
    "rotate-pairs",
    [Case("GPT-J", lambda w, x, c, s: x * c + _pairs(x) * s, (X, ANGLES, ANGLES))],
    [
        Case(
            "odd channels first",
            lambda w, x, c, s: (
                x * c
                + torch.stack((-aten.slice(x, 3, 0, 8, 2), aten.slice(x, 3, 1, 8, 2)), -1).flatten(-2) * s
            ),
            (X, ANGLES, ANGLES),
        ),
    ],
)


def _partial(x: Any, c: Any, s: Any, start: int = 4) -> Any:
    import graphopt.dialect.rotary  # noqa: F401  registers the operator

    turned = torch.ops.graphopt.rotary_embedding(aten.slice(x, 3, 0, 4), c, s, False, 0)
    return torch.cat((turned, aten.slice(x, 3, start, 8)), -1)


template(
    "partial-rotary",
    [Case("first half of the channels", lambda w, x, c, s: _partial(x, c, s), (X, HALF_ANGLES, HALF_ANGLES))],
    [Case("a channel is left out", lambda w, x, c, s: _partial(x, c, s, 5), (X, HALF_ANGLES, HALF_ANGLES))],
)
