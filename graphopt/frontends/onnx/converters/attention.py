"""Attention and rotary embedding (opset 23)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.dtypes import torch_dtype
from graphopt.frontends.onnx.registry import op

_ATTRIBUTES = {
    "is_causal",
    "kv_num_heads",
    "q_num_heads",
    "qk_matmul_output_mode",
    "scale",
    "softcap",
    "softmax_precision",
}


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


@op("Attention", since=23)
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
    for name in call.node.attributes:
        if name not in _ATTRIBUTES:
            raise call.error(f"has the attribute {name!r}, which is not supported")
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
    bias = _bias(query, key, mask, past_length, causal, valid_lengths)
    plain = not softcap and not call.wants(3) and call.int("softmax_precision", 0) in (0, 1, 10, 16)
    if plain:
        only_causal = causal and mask is None and past_key is None and valid_lengths is None
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


def _bias(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    past_length: Any,
    causal: bool,
    valid_lengths: torch.Tensor | None,
) -> torch.Tensor | None:
    """Mask, causal order and lengths of the caches, joined: boolean, or added to the scores."""
    total = key.shape[2]
    if mask is not None and mask.shape[-1] != total:
        # A shorter mask hides the rest.
        missing = total - mask.shape[-1]
        mask = F.pad(mask, [0, missing], value=False if mask.dtype == torch.bool else float("-inf"))
    visible: torch.Tensor | None = None
    if causal:
        row = torch.arange(query.shape[2], device=query.device).unsqueeze(1) + past_length
        visible = torch.arange(total, device=query.device).unsqueeze(0) <= row
    if valid_lengths is not None:
        used = torch.arange(total, device=query.device) < valid_lengths.reshape(-1, 1, 1, 1)
        if causal:
            row = torch.arange(query.shape[2], device=query.device).unsqueeze(1)
            row = row + valid_lengths.reshape(-1, 1, 1, 1) - query.shape[2]
            visible = torch.arange(total, device=query.device) <= row
            used = used & visible
        visible = used
    if mask is None or visible is None:
        return visible if mask is None else mask
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
