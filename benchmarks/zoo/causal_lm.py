"""Example inputs of causal language models, shared by the families that have a prefill and a decode step."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.zoo.model import Model
from benchmarks.zoo.weights import token_ids
from benchmarks.zoo.wrap import DecodeStep, Prefill


def prefill(model: nn.Module, *, vocabulary: int, batch: int = 1, length: int, longest: int) -> Model:
    """Prefill over prompts of ``length`` tokens; batch and length vary."""
    return Model(
        module=Prefill(model).eval(),
        inputs=(token_ids((batch, length), vocabulary),),
        input_names=("input_ids",),
        output_names=("logits",),
        axes=({0: "batch", 1: "sequence"},),
        ranges={"batch": (1, 64), "sequence": (2, longest)},
    )


def decode(
    model: nn.Module,
    *,
    vocabulary: int,
    layers: int,
    kv_heads: int,
    head_dim: int,
    value_dim: int | None = None,
    batch: int = 1,
    past: int,
    longest: int,
) -> Model:
    """One decode step after ``past`` tokens; batch and past vary."""
    names = cache_names(layers)
    caches = random_caches(layers, (batch, kv_heads, past, head_dim), value_dim or head_dim)
    return Model(
        module=DecodeStep(model).eval(),
        inputs=(token_ids((batch, 1), vocabulary), *caches),
        input_names=("input_ids", *(f"past_{n}" for n in names)),
        output_names=("logits", *(f"present_{n}" for n in names)),
        axes=({0: "batch"}, *({0: "batch", 2: "past"} for _ in caches)),
        ranges={"batch": (1, 64), "past": (2, longest - 1)},
    )


def cache_names(layers: int) -> tuple[str, ...]:
    """``key_0, value_0, key_1, ...``."""
    return tuple(f"{part}_{layer}" for layer in range(layers) for part in ("key", "value"))


def random_caches(
    layers: int, shape: tuple[int, int, int, int], value_dim: int, seed: int = 2
) -> tuple[torch.Tensor, ...]:
    """Keys of ``shape`` ``[B, heads, past, head dim]`` and values with ``value_dim``, one pair a layer."""
    generator = torch.Generator().manual_seed(seed)
    value_shape = (*shape[:3], value_dim)
    return tuple(torch.randn(s, generator=generator) for _ in range(layers) for s in (shape, value_shape))
