"""BERT-base: an encoder with an attention mask."""

from __future__ import annotations

import torch

from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise, token_ids
from benchmarks.zoo.wrap import Field


def padding_mask(batch: int, length: int) -> torch.Tensor:
    """``[B, S]`` int64: ones, and zeros over the last quarter of the last row."""
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[-1, length - length // 4 :] = 0
    return mask


def _bert(size: Size, attention: str) -> Model:
    from transformers import BertConfig, BertModel

    if size == "full":
        config, length = BertConfig(attn_implementation=attention), 128
    else:
        config = BertConfig(
            vocab_size=100,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            attn_implementation=attention,
        )
        length = 9
    return Model(
        module=Field(
            randomise(BertModel(config)),
            ("input_ids", "attention_mask"),
            ("last_hidden_state", "pooler_output"),
        ).eval(),
        inputs=(token_ids((2, length), config.vocab_size), padding_mask(2, length)),
        input_names=("input_ids", "attention_mask"),
        output_names=("last_hidden_state", "pooler_output"),
        axes=({0: "batch", 1: "sequence"}, {0: "batch", 1: "sequence"}),
        ranges={"batch": (1, 64), "sequence": (2, config.max_position_embeddings)},
    )


def bert_base(size: Size) -> Model:
    return _bert(size, "sdpa")


def bert_base_eager(size: Size) -> Model:
    return _bert(size, "eager")
