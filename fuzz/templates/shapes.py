"""Templates of the rules on reshapes, permutes, expands and slices."""

from __future__ import annotations

import torch

from graphopt.fuzz.templates import Case, template

aten = torch.ops.aten
BSD = (("b", "s", 12),)

template(
    "canonical-reshape",
    [
        Case("view with computed sizes", lambda w, x: x.view(x.shape[0] * x.shape[1], 12), BSD),
        Case("baked numbers", lambda w, x: x.view(2, 7, 3, 4), ((2, 7, 12),)),
        Case("merging heads", lambda w, x: x.reshape(x.shape[0], x.shape[1], 12), (("b", "s", 3, 4),)),
    ],
    [
        Case("canonical already", lambda w, x: x.reshape(x.shape[0], x.shape[1], -1, 4), BSD),
        Case("another dtype", lambda w, x: x.view(torch.int32), ((3, 4),)),
        Case("empty", lambda w, x: x.reshape(0, 6), ((0, 2, 3),)),
    ],
)
template(
    "identity-reshape",
    [
        Case("reshape", lambda w, x: x.reshape(x.shape[0], -1, 12) * 2, BSD),
        Case("expand", lambda w, x: x.expand(-1, x.shape[1], 12) * 2, BSD),
        Case("squeeze of nothing", lambda w, x: x.squeeze(2) * 2, BSD),
    ],
    [
        Case("merges axes", lambda w, x: x.reshape(-1, 12), BSD),
        Case("expands", lambda w, x: x.expand(2, 3), ((1, 3),)),
        Case("same number of elements", lambda w, x: x.reshape(3, 2), ((2, 3),)),
    ],
)
template(
    "reshape-of-reshape",
    [
        Case("two views", lambda w, x: x.view(x.shape[0], -1).view(x.shape[0], x.shape[1], 3, 4), BSD),
        Case("the inner one is shared", lambda w, x: ((y := x.reshape(-1)), y.reshape(3, -1)), ((2, 6),)),
        Case("unsqueeze", lambda w, x: x.unsqueeze(1).reshape(4, 3), ((2, 6),)),
    ],
    [
        Case("a permute between", lambda w, x: x.reshape(2, 6).t().reshape(4, 3), ((3, 4),)),
        Case(
            "merges and splits symbolic sizes",
            lambda w, x: x.view(x.shape[0], -1).view(x.shape[0], 3, -1),
            BSD,
        ),
    ],
)
template(
    "flatten-of-reshape",
    [Case("flatten of a view", lambda w, x: x.view(x.shape[0], -1, 3, 4).flatten(1), BSD)],
    [
        Case("inner axes only", lambda w, x: x.view(x.shape[0], -1, 3, 4).flatten(1, 2), BSD),
        Case("leading axes change", lambda w, x: x.reshape(3, 2, 2).flatten(1), ((2, 6),)),
    ],
)
template(
    "squeeze-of-unsqueeze",
    [Case("same axis", lambda w, x: x.unsqueeze(1).squeeze(1) * 2, BSD)],
    [Case("other axis", lambda w, x: x.unsqueeze(0).squeeze(1), ((1, 3),))],
)
template(
    "unsqueeze-of-squeeze",
    [Case("same axis", lambda w, x: x.squeeze(1).unsqueeze(1) * 2, ((3, 1, 2),))],
    [Case("other axis", lambda w, x: x.squeeze(1).unsqueeze(0), ((3, 1, 2),))],
)
template(
    "canonical-expand",
    [Case("baked sizes", lambda w, x: x.expand(4, 5, 3), ((1, 5, 3),))],
    [Case("canonical already", lambda w, x: x.expand(4, -1, -1), ((1, 5, 3),))],
)
template(
    "expand-of-expand",
    [Case("two axes", lambda w, x: x.expand(-1, 5, 1).expand(4, 5, 3), ((1, 1, 1),))],
    [Case("the outer keeps a size", lambda w, x: x.expand(-1, 5, 1).expand(4, -1, 3), ((1, 1, 1),))],
)
template(
    "canonical-permute",
    [
        Case("transpose", lambda w, x: x.transpose(-1, 1), BSD),
        Case("t", lambda w, x: x.t(), (("b", 3),)),
        Case("mT", lambda w, x: x.mT, BSD),
        Case("negative axes", lambda w, x: x.permute(0, -1, 1), BSD),
    ],
    [Case("canonical already", lambda w, x: x.permute(0, 2, 1), BSD)],
)
template(
    "identity-permute",
    [Case("no axis moves", lambda w, x: x.permute(0, 1, -1) * 2, BSD)],
    [Case("two axes move", lambda w, x: x.permute(1, 0, 2), BSD)],
)
template(
    "permute-of-permute",
    [
        Case("composed", lambda w, x: x.permute(1, 2, 0).permute(1, 0, 2), BSD),
        Case("inverse", lambda w, x: x.permute(1, 2, 0).permute(2, 0, 1) * 2, BSD),
    ],
    [
        Case(
            "a reshape between",
            lambda w, x: x.permute(1, 2, 0).reshape(12, 2, -1).permute(1, 0, 2),
            ((2, 2, 12),),
        )
    ],
)
template(
    "full-slice",
    [
        Case("to the end", lambda w, x: aten.slice(x, 1, 0) * 2, BSD),
        Case("end beyond the size", lambda w, x: x[:, :, :100] * 2, BSD),
        Case("negative start", lambda w, x: x[:, :, -12:] * 2, BSD),
    ],
    [
        Case("a part", lambda w, x: aten.slice(x, 2, 1), BSD),
        Case("every second", lambda w, x: x[::2], ((1, 3),)),
    ],
)
template(
    "slice-to-end",
    [
        Case("size as the end", lambda w, x: x[:, :, 6:12], BSD),
        Case("symbolic size as the end", lambda w, x: aten.slice(x, 1, 1, x.shape[1]), BSD),
        Case("start from the end", lambda w, x: x[:, :, -5:12], BSD),
    ],
    [
        Case("one before the end", lambda w, x: x[:, :, 6:11], BSD),
        Case("to the end already", lambda w, x: x[:, :, 6:], BSD),
    ],
)
