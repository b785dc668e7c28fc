"""Templates of the rules that fold into weights, and that make linear layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.fuzz.templates import Case, Spec, Tensor, template

aten = torch.ops.aten
IMAGE = (("b", 4, 6, 6),)
ROWS = (("b", "s", 6),)


def _norm(channels: int) -> dict[str, Spec]:
    return {"g": (channels,), "h": (channels,), "m": (channels,), "v": Tensor((channels,), positive=True)}


def _batch_norm(w: Any, x: Any, training: bool = False, eps: float = 1e-3) -> Any:
    return F.batch_norm(x, w.m, w.v, w.g, w.h, training, 0.1, eps)


CONV: dict[str, Spec] = {"k": (8, 4, 3, 3), "c": (8,)}
POINTWISE: dict[str, Spec] = {"k": (8, 4, 1, 1), "c": (8,)}
GROUPED: dict[str, Spec] = {"k": (8, 2, 3, 3), "c": (8,)}
UP: dict[str, Spec] = {"k": (4, 3, 2, 2), "c": (6,)}

template(
    "batch-norm-into-layer",
    [
        Case("conv", lambda w, x: _batch_norm(w, F.conv2d(x, w.k, w.c, padding=1)), IMAGE, CONV | _norm(8)),
        Case(
            "no bias, grouped",
            lambda w, x: _batch_norm(w, F.conv2d(x, w.k, groups=2)),
            IMAGE,
            GROUPED | _norm(8),
        ),
        Case(
            "transposed, grouped",
            lambda w, x: _batch_norm(w, F.conv_transpose2d(x, w.k, w.c, 2, groups=2)),
            IMAGE,
            UP | _norm(6),
        ),
        Case("no affine", lambda w, x: F.batch_norm(F.conv2d(x, w.k, w.c), w.m, w.v), IMAGE, CONV | _norm(8)),
        Case("linear", lambda w, x: _batch_norm(w, F.linear(x, w.k)), (("b", 6),), {"k": (5, 6)} | _norm(5)),
        Case("1-d", lambda w, x: _batch_norm(w, F.conv1d(x, w.k)), ((2, 4, 9),), {"k": (8, 4, 3)} | _norm(8)),
    ],
    [
        Case(
            "training statistics",
            lambda w, x: F.batch_norm(F.conv2d(x, w.k, w.c), None, None, w.g, w.h, True),
            IMAGE,
            CONV | _norm(8),
        ),
        Case(
            "the conv is an output too",
            lambda w, x: ((y := F.conv2d(x, w.k, w.c)), _batch_norm(w, y)),
            IMAGE,
            CONV | _norm(8),
        ),
        Case(
            "the weight has another user",
            lambda w, x: _batch_norm(w, F.conv2d(x, w.k, w.c)) + w.k.sum(),
            IMAGE,
            CONV | _norm(8),
        ),
        Case(
            "linear over rows",
            lambda w, x: _batch_norm(w, F.linear(x, w.k)),
            ((2, 5, 6),),
            {"k": (5, 6)} | _norm(5),
        ),
        Case(
            "computed weight",
            lambda w, x, y: _batch_norm(w, F.conv2d(x, y, w.c)),
            ((2, 4, 6, 6), (8, 4, 3, 3)),
            CONV | _norm(8),
        ),
    ],
)
template(
    "batch-norm-before-layer",
    [
        Case("pointwise", lambda w, x: F.conv2d(_batch_norm(w, x), w.k, w.c), IMAGE, POINTWISE | _norm(4)),
        Case("3x3 without padding", lambda w, x: F.conv2d(_batch_norm(w, x), w.k), IMAGE, CONV | _norm(4)),
        Case(
            "grouped", lambda w, x: F.conv2d(_batch_norm(w, x), w.k, w.c, groups=2), IMAGE, GROUPED | _norm(4)
        ),
        Case("linear", lambda w, x: F.linear(_batch_norm(w, x), w.k), (("b", 6),), {"k": (5, 6)} | _norm(6)),
    ],
    [
        Case(
            "padding", lambda w, x: F.conv2d(_batch_norm(w, x), w.k, w.c, padding=1), IMAGE, CONV | _norm(4)
        ),
        Case(
            "transposed",
            lambda w, x: F.conv_transpose2d(_batch_norm(w, x), w.k),
            IMAGE,
            {"k": (4, 3, 3, 3)} | _norm(4),
        ),
        Case(
            "the norm is an output too",
            lambda w, x: ((y := _batch_norm(w, x)), F.conv2d(y, w.k)),
            IMAGE,
            POINTWISE | _norm(4),
        ),
    ],
)
template(
    "functional-batch-norm",
    [
        Case(
            "result only",
            lambda w, x: aten._native_batch_norm_legit_no_training(x, w.g, w.h, w.m, w.v, 0.1, 1e-3)[0],
            IMAGE,
            _norm(4),
        ),
    ],
    [
        Case(
            "training",
            lambda w, x: aten._native_batch_norm_legit.no_stats(x, w.g, w.h, True, 0.1, 1e-3)[0],
            IMAGE,
            _norm(4),
        ),
    ],
)
template(
    "scale-after-layer",
    [
        Case("number", lambda w, x: F.conv2d(x, w.k, w.c) * 1.5, IMAGE, CONV),
        Case(
            "a number a channel", lambda w, x: w.a * F.conv2d(x, w.k, w.c), IMAGE, CONV | {"a": (1, 8, 1, 1)}
        ),
        Case(
            "transposed, divided",
            lambda w, x: F.conv_transpose2d(x, w.k, w.c, 2, groups=2) / w.a,
            IMAGE,
            UP | {"a": Tensor((6, 1, 1), positive=True)},
        ),
        Case("linear", lambda w, x: F.linear(x, w.k, w.c) * w.a, ROWS, {"k": (5, 6), "c": (5,), "a": (5,)}),
    ],
    [
        Case(
            "a number a column", lambda w, x: F.conv2d(x, w.k, w.c) * w.a, ((2, 4, 6, 6),), CONV | {"a": (4,)}
        ),
        Case(
            "constant over the layer",
            lambda w, x: w.a / F.conv2d(x, w.k, w.c),
            IMAGE,
            CONV | {"a": (8, 1, 1)},
        ),
        Case("the layer is used twice", lambda w, x: (y := F.conv2d(x, w.k)) * 2.0 + y, IMAGE, CONV),
        Case(
            "weights overflow",
            lambda w, x: F.linear(x, w.k) * 60000.0,
            (Tensor((2, 6), torch.float16),),
            {"k": torch.full((5, 6), 2.0, dtype=torch.float16)},
        ),
        Case("adds an axis", lambda w, x: F.conv2d(x, w.k) * w.a, IMAGE, CONV | {"a": (1, 1, 1, 1, 1)}),
    ],
)
template(
    "shift-after-layer",
    [
        Case("number", lambda w, x: F.conv2d(x, w.k, w.c) - 1.5, IMAGE, CONV),
        Case("no bias yet", lambda w, x: F.conv2d(x, w.k) + w.a, IMAGE, CONV | {"a": (1, 8, 1, 1)}),
    ],
    [
        Case("constant minus the layer", lambda w, x: w.a - F.conv2d(x, w.k), IMAGE, CONV | {"a": (8, 1, 1)}),
        Case(
            "times alpha",
            lambda w, x: torch.add(F.conv2d(x, w.k), w.a, alpha=3),
            IMAGE,
            CONV | {"a": (8, 1, 1)},
        ),
        Case("a map", lambda w, x: F.conv2d(x, w.k) + w.a, ((2, 4, 6, 6),), CONV | {"a": (4, 4)}),
    ],
)
template(
    "scale-before-layer",
    [
        Case("number, padded", lambda w, x: F.conv2d(x * 1.5, w.k, w.c, padding=1), IMAGE, CONV),
        Case(
            "a number a channel, grouped",
            lambda w, x: F.conv2d(x * w.a, w.k, groups=2),
            IMAGE,
            GROUPED | {"a": (4, 1, 1)},
        ),
        Case("transposed", lambda w, x: F.conv_transpose2d(x / 4.0, w.k, w.c, 2, groups=2), IMAGE, UP),
        Case("linear", lambda w, x: F.linear(x * w.a, w.k), ROWS, {"k": (5, 6), "a": (6,)}),
    ],
    [
        Case("a number a column", lambda w, x: F.conv2d(x * w.a, w.k), ((2, 4, 6, 6),), CONV | {"a": (6,)}),
        Case("the product is an output too", lambda w, x: ((y := x * 1.5), F.conv2d(y, w.k)), IMAGE, CONV),
        Case(
            "broadcasts the input",
            lambda w, x: F.conv2d(x * w.a, w.k),
            (("b", 1, 6, 6),),
            CONV | {"a": (4, 1, 1)},
        ),
    ],
)
template(
    "shift-before-layer",
    [
        Case("pointwise", lambda w, x: F.conv2d(x + 0.25, w.k, w.c), IMAGE, POINTWISE),
        Case("grouped 3x3", lambda w, x: F.conv2d(x - w.a, w.k, groups=2), IMAGE, GROUPED | {"a": (4, 1, 1)}),
        Case("linear", lambda w, x: F.linear(x + w.a, w.k), ROWS, {"k": (5, 6), "a": (6,)}),
    ],
    [
        Case("padding", lambda w, x: F.conv2d(x + 0.25, w.k, w.c, padding=1), IMAGE, CONV),
        Case("transposed", lambda w, x: F.conv_transpose2d(x + 0.25, w.k, w.c, 2, groups=2), IMAGE, UP),
        Case("same padding", lambda w, x: F.conv2d(x + 0.25, w.k, w.c, padding="same"), IMAGE, CONV),
    ],
)
template(
    "scale-through-shift",
    [
        Case("padded conv", lambda w, x: F.conv2d(x * 0.75 + 0.25, w.k, w.c, padding=1), IMAGE, CONV),
    ],
    [
        Case("factor nearly 0", lambda w, x: F.conv2d(x * 1e-5 + 0.25, w.k, w.c, padding=1), IMAGE, CONV),
        Case(
            "a factor a channel",
            lambda w, x: F.conv2d(x * w.a + 0.25, w.k, w.c, padding=1),
            IMAGE,
            CONV | {"a": (4, 1, 1)},
        ),
    ],
)
template(
    "matmul-by-constant",
    [
        Case("rows", lambda w, x: x @ w.k, ROWS, {"k": (6, 5)}),
        Case("a square weight", lambda w, x: x @ w.k, ROWS, {"k": (6, 6)}),
        Case("a transposed weight", lambda w, x: x @ w.k.t(), ROWS, {"k": (5, 6)}),
        Case(
            "half",
            lambda w, x: torch.mm(x, w.k),
            (Tensor(("b", 6), torch.float16),),
            {"k": Tensor((6, 5), torch.float16)},
        ),
    ],
    [
        Case("constant on the left", lambda w, x: w.k @ x, ((6, 5),), {"k": (3, 6)}),
        Case("a batch of constants", lambda w, x: x @ w.k, ((2, 3, 6),), {"k": (2, 6, 5)}),
        Case("two inputs", lambda w, x, y: x @ y, ((3, 6), (6, 5))),
        Case(
            "integers",
            lambda w, x: x @ w.k,
            (Tensor((3, 6), torch.int64),),
            {"k": Tensor((6, 5), torch.int64)},
        ),
    ],
)
template(
    "addmm-by-constant",
    [Case("Gemm", lambda w, x: torch.addmm(w.b, x, w.k), (("b", 6),), {"k": (6, 5), "b": (5,)})],
    [
        Case("beta", lambda w, x: torch.addmm(w.b, x, w.k, beta=2), (("b", 6),), {"k": (6, 5), "b": (5,)}),
        Case("a matrix", lambda w, x: torch.addmm(w.b, x, w.k), ((3, 6),), {"k": (6, 5), "b": (3, 5)}),
        Case("one number", lambda w, x: torch.addmm(w.b, x, w.k), ((3, 6),), {"k": (6, 5), "b": (1,)}),
    ],
)
template(
    "linear-bias",
    [
        Case("vector", lambda w, x: F.linear(x, w.k) + w.b, ROWS, {"k": (5, 6), "b": (5,)}),
        Case("leading ones", lambda w, x: w.b + F.linear(x, w.k), ROWS, {"k": (5, 6), "b": (1, 1, 5)}),
    ],
    [
        Case("one number", lambda w, x: F.linear(x, w.k) + w.b, ROWS, {"k": (5, 6), "b": (1,)}),
        Case("has a bias", lambda w, x: F.linear(x, w.k, w.b) + w.b, ROWS, {"k": (5, 6), "b": (5,)}),
        Case(
            "times alpha",
            lambda w, x: torch.add(F.linear(x, w.k), w.b, alpha=2),
            ROWS,
            {"k": (5, 6), "b": (5,)},
        ),
    ],
)
template(
    "linear-over-rows",
    [
        Case(
            "view, linear, view",
            lambda w, x: F.linear(x.view(-1, 6), w.k).view(x.shape[0], -1, 5),
            ROWS,
            {"k": (5, 6)},
        ),
    ],
    [
        Case(
            "regrouped rows",
            lambda w, x: F.linear(x.reshape(-1, 6), w.k).reshape(3, 4, 5),
            ((4, 3, 6),),
            {"k": (5, 6)},
        )
    ],
)
template(
    "batched-matmul",
    [
        Case(
            "heads",
            lambda w, x, y: torch.bmm(x.reshape(-1, 4, 3), y.reshape(-1, 3, 5)).reshape(2, 3, 4, 5),
            ((2, 3, 4, 3), (2, 3, 3, 5)),
        ),
    ],
    [
        Case(
            "other batch axes",
            lambda w, x, y: torch.bmm(x.reshape(-1, 4, 3), y.reshape(-1, 3, 5)).reshape(3, 2, 4, 5),
            ((2, 3, 4, 3), (2, 3, 3, 5)),
        ),
        Case(
            "rows go into the batch",
            lambda w, x, y: torch.bmm(x.reshape(6, 2, 6), y.reshape(-1, 6, 5)).reshape(2, 3, 2, 5),
            ((2, 3, 4, 3), (2, 3, 6, 5)),
        ),
    ],
)
