"""Attention and rotary embedding (opset 23)."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.dtypes import torch_dtype
from graphopt.frontends.onnx.registry import op


@op("RotaryEmbedding", since=23, ignores=("num_heads",))
def rotary_embedding(
    call: Call,
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """X [B, H, S, D] or [B, S, H*D]; caches [positions, R/2], or [B, S, R/2] without positions."""
    flat = x.ndim == 3
    original = x.shape
    if flat:
        heads = call.int("num_heads")
        x = x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)
    rotary = call.int("rotary_embedding_dim", 0) or x.shape[-1]
    if positions is not None:
        cos, sin = F.embedding(positions, cos), F.embedding(positions, sin)
    cos, sin = (c[..., : rotary // 2].unsqueeze(1) for c in (cos, sin))
    rotated, rest = (x, None) if rotary == x.shape[-1] else x.split([rotary, x.shape[-1] - rotary], dim=-1)
    if call.flag("interleaved"):
        pairs = rotated.reshape([*rotated.shape[:-1], rotary // 2, 2])
        first, second = pairs[..., 0], pairs[..., 1]
        y = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
        y = y.reshape(rotated.shape)
    else:
        # The form of every rotate-half implementation, which rewrite rules know.
        cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1)
        first, second = rotated.chunk(2, dim=-1)
        y = rotated * cos + torch.cat([-second, first], dim=-1) * sin
    if rest is not None:
        y = torch.cat([y, rest], dim=-1)
    return y.transpose(1, 2).reshape(original) if flat else y


@op("Attention", since=23, ignores=("kv_num_heads", "q_num_heads", "qk_matmul_output_mode"))
def attention(
    call: Call,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    past_key: torch.Tensor | None = None,
    past_value: torch.Tensor | None = None,
    valid_lengths: torch.Tensor | None = None,
) -> Any:
    """Q [B, Hq, S, D], K and V [B, Hkv, T, D] (or heads folded into the last axis).

    Outputs: Y, present key, present value, and the scores in the stage that ``qk_matmul_output_mode`` names.
    """
    flat = query.ndim == 3
    if flat:
        heads = call.int("q_num_heads")
        kv_heads = call.int("kv_num_heads")
        query, key, value = (_heads(t, h) for t, h in ((query, heads), (key, kv_heads), (value, kv_heads)))
    past_length: Any = 0 if past_key is None else past_key.shape[2]
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
    scale = call.float("scale") or None
    causal = call.flag("is_causal")
    softcap = call.float("softcap", 0.0)
    grouped = query.shape[1] != key.shape[1]
    window = (call.int("left_window_size", -1), call.int("right_window_size", -1))
    visible = _visible(query, key, past_length, causal, window, valid_lengths)
    bias = _bias(key, mask, visible)
    plain = not softcap and not call.wants(3) and call.int("softmax_precision", 0) in (0, 1, 10, 16)
    if plain:
        only_causal = causal and max(window) < 0 and all(v is None for v in (mask, past_key, valid_lengths))
        y = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if only_causal else bias,
            is_causal=only_causal,
            scale=scale,
            enable_gqa=grouped,
        )
        scores = None
    else:
        y, scores = _explicit(call, query, key, value, bias, scale, softcap)
    if flat:
        y = y.transpose(1, 2).reshape(y.shape[0], y.shape[2], -1)
    return y, key, value, scores


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def _visible(
    query: torch.Tensor,
    key: torch.Tensor,
    past_length: Any,
    causal: bool,
    window: tuple[int, int],
    valid_lengths: torch.Tensor | None,
) -> torch.Tensor | None:
    """Which keys each query may see, by position: [S, T] or [B, 1, S, T]; None for all.

    Queries stand after the past, or at the end of what is valid of a cache of fixed size.  A window
    reaches so many keys to the left and right; -1 is no bound.
    """
    left, right = window
    column = torch.arange(key.shape[2], device=query.device).unsqueeze(0)
    allowed: list[torch.Tensor] = []
    if causal or left >= 0 or right >= 0:
        row = torch.arange(query.shape[2], device=query.device).unsqueeze(1) + past_length
        if valid_lengths is not None:
            row = row + valid_lengths.reshape(-1, 1, 1, 1) - query.shape[2]
        if causal:
            allowed.append(column <= row)
        if left >= 0:
            allowed.append(row - column <= left)
        if right >= 0:
            allowed.append(column - row <= right)
    if valid_lengths is not None:
        allowed.append(column < valid_lengths.reshape(-1, 1, 1, 1))
    return functools.reduce(torch.logical_and, allowed) if allowed else None


def _bias(key: torch.Tensor, mask: torch.Tensor | None, visible: torch.Tensor | None) -> torch.Tensor | None:
    """Mask and visibility, joined: boolean, or added to the scores."""
    if mask is None:
        return visible
    missing = key.shape[2] - mask.shape[-1]
    if missing != 0:
        # A shorter mask hides the rest.
        mask = F.pad(mask, [0, missing], value=False if mask.dtype == torch.bool else float("-inf"))
    mask = mask.unsqueeze(0) if mask.ndim == 1 else mask
    if visible is None:
        return mask
    if mask.dtype == torch.bool:
        return mask & visible
    return torch.where(visible, mask, float("-inf"))


def _explicit(
    call: Call,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float | None,
    softcap: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softcap and the inner scores, which scaled_dot_product_attention does not offer."""
    repeats = query.shape[1] // key.shape[1]
    if repeats != 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    root = (scale if scale is not None else query.shape[-1] ** -0.5) ** 0.5
    stages = [torch.matmul(query * root, (key * root).transpose(-2, -1))]
    capped = softcap * torch.tanh(stages[0] / softcap) if softcap else stages[0]
    if bias is None:
        masked = capped
    elif bias.dtype == torch.bool:
        masked = torch.where(bias, capped, float("-inf"))
    else:
        masked = capped + bias
    precision = call.int("softmax_precision", 0)
    wide = masked.to(torch_dtype(precision, call.name)) if precision else masked
    weights = torch.softmax(wide, dim=-1)
    # A row that sees nothing attends to nothing.
    weights = torch.where(torch.isnan(weights), torch.zeros_like(weights), weights).to(query.dtype)
    mode = call.int("qk_matmul_output_mode", 0)
    chosen = (stages[0], capped, masked, weights)
    return torch.matmul(weights, value), chosen[mode]
