"""Decoder steps of encoder-decoder models: the module and its example inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.zoo.causal_lm import cache_names, random_caches
from benchmarks.zoo.model import Model
from benchmarks.zoo.weights import token_ids
from benchmarks.zoo.wrap import flat_cache


class Seq2SeqDecodeStep(nn.Module):
    """One decoder step, both caches as inputs, the decoder's own one also as output.

    ``(ids [B, 1], own key_0, value_0, ..., cross key_0, value_0, ...)`` ->
    ``(logits [B, 1, vocabulary], own key_0, value_0, ...)``.  Own caches are
    ``[B, heads, past, head dim]``; cross caches, ``[B, heads, source, head dim]``, are the keys and
    values of the encoder's output, which no step changes.
    """

    def __init__(self, model: Any, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        from transformers import DynamicCache, EncoderDecoderCache

        own, cross = past[: 2 * self.layers], past[2 * self.layers :]
        cache = EncoderDecoderCache(
            DynamicCache(list(zip(own[0::2], own[1::2], strict=True))),
            DynamicCache(list(zip(cross[0::2], cross[1::2], strict=True))),
        )
        # Only the length of the encoder's output matters once its keys and values are cached.
        encoded = cross[0].new_zeros((input_ids.shape[0], cross[0].shape[2], self.model.config.d_model))
        logits = self.model(
            decoder_input_ids=input_ids, encoder_outputs=(encoded,), past_key_values=cache, use_cache=True
        ).logits
        return (logits, *flat_cache(cache.self_attention_cache))


def decode_step(
    model: Any,
    *,
    vocabulary: int,
    layers: int,
    heads: int,
    head_dim: int,
    batch: int,
    past: int,
    source: int,
    longest: int,
    source_varies: bool = True,
) -> Model:
    """A decoder step and its example inputs: batch, past length and, if it may, source length vary."""
    own = random_caches(layers, (batch, heads, past, head_dim), head_dim, seed=2)
    cross = random_caches(layers, (batch, heads, source, head_dim), head_dim, seed=3)
    names = cache_names(layers)
    cross_axes = {0: "batch", 2: "source"} if source_varies else {0: "batch"}
    return Model(
        module=Seq2SeqDecodeStep(model, layers).eval(),
        inputs=(token_ids((batch, 1), vocabulary), *own, *cross),
        input_names=("input_ids", *(f"past_{n}" for n in names), *(f"cross_{n}" for n in names)),
        output_names=("logits", *(f"present_{n}" for n in names)),
        axes=({0: "batch"}, *({0: "batch", 2: "past"} for _ in own), *(cross_axes for _ in cross)),
        ranges={"batch": (1, 64), "past": (2, longest - 1), "source": (2, longest)},
    )
