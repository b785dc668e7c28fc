"""The first layer of BERT as one node."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op


@contrib_op("EmbedLayerNormalization", ignores=("mask_index_type",))
def embed_layer_normalization(
    call: Call,
    tokens: torch.Tensor,
    segments: torch.Tensor | None,
    word_table: torch.Tensor,
    position_table: torch.Tensor,
    segment_table: torch.Tensor | None,
    scale: torch.Tensor,
    shift: torch.Tensor,
    mask: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
) -> Any:
    """LayerNorm of the sum of word, position and segment embeddings, int32 ids [B, S] -> [B, S, H].

    The second output is the number of ones in each row of ``mask``, int32 [B] (zeros without a mask);
    the third is the sum before the norm.
    """
    words = F.embedding(tokens, word_table)
    if positions is None:
        positions = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
    total = words + F.embedding(positions, position_table)
    if segments is not None and segment_table is not None:
        total = total + F.embedding(segments, segment_table)
    y = F.layer_norm(total, [total.shape[-1]], scale, shift, call.float("epsilon", 1e-12))
    if mask is None:
        lengths = torch.zeros([tokens.shape[0]], dtype=torch.int32, device=tokens.device)
    else:
        lengths = (mask == 1).to(torch.int32).sum(dim=1, dtype=torch.int32)
    return y, lengths, total
