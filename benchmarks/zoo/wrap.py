"""Thin modules that give models of ``transformers`` flat tensors in and flat tensors out."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Field(nn.Module):
    """``model(**{input_name: x, ...})`` and one or more fields of the result, as a tensor or a tuple."""

    def __init__(self, model: nn.Module, inputs: tuple[str, ...], fields: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.input_names = inputs
        self.fields = fields

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        result = self.model(**dict(zip(self.input_names, tensors, strict=True)))
        values = tuple(getattr(result, name) for name in self.fields)
        return values if len(values) > 1 else values[0]


class Prefill(nn.Module):
    """A causal language model over a whole prompt: ids ``[B, S]`` int64 -> logits ``[B, S, vocabulary]``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, use_cache=False).logits


class DecodeStep(nn.Module):
    """One step of a causal language model with its KV cache as inputs and outputs.

    ``(ids [B, 1], key_0, value_0, key_1, ...)`` with caches ``[B, kv heads, past, head dim]`` ->
    ``(logits [B, 1, vocabulary], key_0, value_0, ...)`` with caches ``[B, kv heads, past + 1, head dim]``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        from transformers import DynamicCache

        cache = DynamicCache(list(zip(past[0::2], past[1::2], strict=True)))
        result = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
        return (result.logits, *flat_cache(result.past_key_values))


def flat_cache(cache: Any) -> list[torch.Tensor]:
    """A ``DynamicCache`` as ``[key_0, value_0, key_1, ...]``."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
