"""Rotary position embedding with caches of cosines and sines."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """Rotates the first ``2 * R`` numbers of each head; x [B, H, S, D], cos and sin [B or 1, S, R]."""
    half = cos.shape[-1]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    width = x.shape[-1]
    turned, rest = (x, None) if 2 * half == width else x.split([2 * half, width - 2 * half], dim=-1)
    if interleaved:
        pairs = turned.reshape([*turned.shape[:-1], half, 2])
        first, second = pairs[..., 0], pairs[..., 1]
        y = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
        y = y.reshape(turned.shape)
    else:
        # The form of every rotate-half implementation, which rewrite rules know.
        cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1)
        first, second = turned.chunk(2, dim=-1)
        y = turned * cos + torch.cat([-second, first], dim=-1) * sin
    return y if rest is None else torch.cat([y, rest], dim=-1)


@contrib_op("RotaryEmbedding")
def rotary_embedding(
    call: Call, x: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """x [B, S, H*D] or [B, H, S, D]; positions [B, S], or [1]: the first of consecutive ones.

    Caches are [positions, R/2], where R is D or ``rotary_embedding_dim``.
    """
    if call.flag("is_packed_batching"):
        raise call.error("packs sequences of several lengths, which is not supported")
    if call.float("scale", 1.0) != 1.0:
        raise call.error("has a scale, which onnxruntime's CPU kernel ignores")
    flat = x.ndim == 3
    batch, length = (x.shape[0], x.shape[1]) if flat else (x.shape[0], x.shape[2])
    heads, width = call.int("num_heads", 0), 2 * cos.shape[-1]
    declared = call.int("rotary_embedding_dim", 0)
    if declared and declared != width:
        raise call.error(f"has rotary_embedding_dim = {declared} and caches of {width // 2} angles")
    if flat:
        heads = heads or x.shape[2] // width
        x = x.reshape(batch, length, heads, x.shape[2] // heads).transpose(1, 2)
    if positions.ndim == 1:
        positions = (positions + torch.arange(length, device=x.device)).unsqueeze(0)
    y = rotate(x, F.embedding(positions, cos), F.embedding(positions, sin), call.flag("interleaved"))
    if not flat:
        return y
    flattened: Any = y.transpose(1, 2).reshape(batch, length, -1)
    return flattened
