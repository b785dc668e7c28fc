"""Planes, rows and elements: what has no product in it."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from graphopt.fuzz.kernels.case import SIZES, KernelCase, case_of, values


def pooling(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    x = values(dtype, 2, rng.choice((1, 5, 16, 24)), rng.choice((7, 12, 17)), rng.choice((6, 13)))
    window, stride = rng.choice((2, 3)), rng.choice((1, 2, 3))
    convolved = rng.random() < 0.5  # after a convolution images have their channels last
    part = nn.Conv2d(x.shape[1], rng.choice((8, 24)), 1) if convolved else nn.Identity()
    pools: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda y: F.max_pool2d(y, window, stride, window // 2),
        lambda y: F.avg_pool2d(y, window, stride),
        lambda y: F.avg_pool2d(y, window, stride, window // 2, ceil, border),
        lambda y: F.group_norm(y, groups),
        lambda y: F.adaptive_avg_pool2d(y, rng_size),
    )
    rng_size, ceil, border = rng.choice((1, 2, 5)), rng.random() < 0.5, rng.random() < 0.5
    groups = rng.choice((1, 1, 8)) if convolved else 1
    pool = rng.choice(pools)
    return case_of(lambda part, x: pool(part(x)), [x], None, part)


def resize(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    x = values(dtype, 1, rng.choice((1, 5, 16)), rng.choice((3, 8)), rng.choice((4, 7)))
    mode, factor = rng.choice(("nearest", "bilinear")), rng.choice((2, 3))
    part = nn.Conv2d(x.shape[1], 8, 1) if rng.random() < 0.5 else nn.Identity()
    return case_of(lambda part, x: F.interpolate(part(x), scale_factor=factor, mode=mode), [x], None, part)


def rows(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    length = rng.choice((*SIZES, 129, 197))
    x = values(dtype, rng.choice((1, 3, 9)), rng.choice((1, 4)), length)
    rng_largest = rng.random() < 0.5
    functions: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda x: x.softmax(-1),
        lambda x: x.log_softmax(-1),
        lambda x: F.layer_norm(x, (length,)),
        lambda x: F.rms_norm(x, (length,), eps=1e-5),
        lambda x: x.sum(-1),
        lambda x: x.amax(-1, keepdim=True) + x.mean(1, keepdim=True),
        lambda x: x.softmax(1),
        lambda x: (x * x).sum((0, 2)),
        lambda x: x.topk(min(length, 5), -1, rng_largest)[0],
    )
    symbolic: list[dict[int, str]] | None = [{0: "rows"}] if x.shape[0] > 1 and rng.random() < 0.4 else None
    return case_of(rng.choice(functions), [x], symbolic)


def integer_rows(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    x = values(dtype, rng.choice(SIZES), rng.choice(SIZES))
    functions: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda x: x.sum(-1),
        lambda x: x.amax(0),
        lambda x: x.argmax(-1),
        lambda x: x.amin(-1, keepdim=True) + x,
    )
    return case_of(rng.choice(functions), [x])


def elements(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    a, b, c = (rng.choice(SIZES) for _ in range(3))
    x, y = values(dtype, a, b, c), values(dtype, *rng.choice([(c,), (b, 1), (a, 1, c), (a, b, c)]))
    functions: tuple[Callable[..., torch.Tensor], ...] = (
        lambda x, y: (x + y).permute(2, 0, 1) * 2,
        lambda x, y: torch.cat([x, x + y], 1)[:, ::2],
        lambda x, y: torch.where(x > y, x, y * 3).flip(0).reshape(-1),
        lambda x, y: F.pad(x - y, (1, 2, 0, 3)).mT,
        lambda x, y: (x * y).reshape(b, -1).transpose(0, 1).contiguous(),
    )
    return case_of(rng.choice(functions), [x, y])


def gather(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, width, picked = (rng.choice(SIZES) for _ in range(3))
    x, places = values(dtype, rows, width), torch.randint(0, rows, (picked,))
    functions: tuple[Callable[..., torch.Tensor], ...] = (
        lambda x, i: x[i],
        lambda x, i: x.index_select(0, i) * 2,
        lambda x, i: x.gather(0, i[:, None].expand(-1, x.shape[1])),
        lambda x, i: torch.zeros_like(x).index_add(0, i, x[i]),
    )
    return case_of(rng.choice(functions), [x, places])
