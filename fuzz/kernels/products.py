"""Products of matrices, and attention."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

from graphopt.fuzz.kernels.case import SIZES, KernelCase, axes_of, case_of, epilogue, values


def linear(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, depth, columns = (rng.choice(SIZES) for _ in range(3))
    layer, after = nn.Linear(depth, columns, bias=rng.random() < 0.5), epilogue(rng)
    lead = rng.choice([(), (2,), (3, 2)])
    x = values(dtype, *lead, rows, depth)
    axes = axes_of(rng, rows=len(lead))
    return case_of(lambda part, x: after(part(x)), [x], axes, layer)


def matmul(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, depth, columns = (rng.choice(SIZES) for _ in range(3))
    lead = rng.choice([(), (3,), (2, 3)])
    a, b = values(dtype, *lead, rows, depth), values(dtype, *lead, depth, columns)
    after = epilogue(rng) if dtype.is_floating_point else lambda y: y
    if rng.random() < 0.3:
        b = b.mT.contiguous()
        return case_of(lambda x, y: after(x @ y.mT), [a, b])
    return case_of(lambda x, y: after(x @ y), [a, b])


def attention(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    queries, keys = rng.choice(SIZES), rng.choice(SIZES)
    depth, width = rng.choice((4, 8, 16, 24, 40)), rng.choice((4, 8, 16, 24, 40))
    groups = rng.choice((1, 1, 3))
    q = values(dtype, 2, 2 * groups, queries, depth)
    k, v = values(dtype, 2, 2, keys, depth), values(dtype, 2, 2, keys, width)
    causal = rng.random() < 0.3
    inputs = [q, k, v]
    if not causal and rng.random() < 0.5:
        mask = torch.rand(rng.choice([(queries, keys), (2, 1, 1, keys), (1, 2 * groups, queries, keys)]))
        inputs.append(mask > 0.3 if rng.random() < 0.5 else mask.to(dtype))
    dynamic = None
    if len(inputs) == 3 and rng.random() < 0.4 and queries > 1 and keys > 1:
        dynamic = [{2: "queries"}, {2: "keys"}, {2: "keys"}]

    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=groups > 1)

    return case_of(attention, inputs, dynamic)


def decoding(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    """A few queries over many keys, which are split."""
    queries, groups = rng.choice((1, 1, 1, 2, 3)), rng.choice((1, 1, 2, 4))
    keys = rng.choice((*SIZES, 127, 130, 300, 513))
    depth, width = rng.choice((4, 16, 24, 64)), rng.choice((4, 8, 40, 64))
    batch, heads = rng.choice((1, 2)), rng.choice((1, 3))
    q = values(dtype, batch, heads * groups, queries, depth)
    k, v = values(dtype, batch, heads, keys, depth), values(dtype, batch, heads, keys, width)
    inputs, causal = [q, k, v], rng.random() < 0.2
    if not causal and rng.random() < 0.4:
        mask = torch.rand(rng.choice([(queries, keys), (batch, 1, 1, keys)]))
        inputs.append(mask > 0.7 if rng.random() < 0.5 else mask.to(dtype))
    dynamic = None
    if len(inputs) == 3 and rng.random() < 0.4 and keys > 1:
        dynamic = [{}, {2: "keys"}, {2: "keys"}]

    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=groups > 1)

    return case_of(attention, inputs, dynamic)


def strassen_product(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    depth, columns = rng.choice((256, 384, 416, 512, 640)), rng.choice((96, 192, 250, 384, 500, 576))
    rows = rng.choice((49, 96, 128, 130, 192, 197))
    after, residual = epilogue(rng), rng.random() < 0.3
    bias = rng.random() < 0.5

    def applied(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = part(x)
        return after(y + x) if residual and y.shape == x.shape else after(y)

    if rng.random() < 0.3:
        x = values(dtype, rng.choice((1, 2)), depth, rng.choice((7, 8, 14)), rng.choice((13, 14, 28)))
        axes = [{0: "batch"}] if x.shape[0] > 1 and rng.random() < 0.5 else None
        return case_of(applied, [x], axes, nn.Conv2d(depth, columns, 1, bias=bias))
    x = values(dtype, *rng.choice([(), (1,), (2,), (2, 3), (5, 1)]), rows, depth)
    if rng.random() < 0.4:
        # Rows of another size: rounding errors reach the rows half a block beside them.
        x[..., rng.randrange(rows), :] *= 2.0 ** rng.choice((-7, 7))
    axes = [{0: "batch"}] if x.ndim > 2 and x.shape[0] > 1 and rng.random() < 0.3 else None
    return case_of(applied, [x], axes, nn.Linear(depth, columns, bias=bias))
