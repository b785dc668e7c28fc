"""Multi-head attention with its projection (Attention) and without (MultiHeadAttention).

What both share: masks are *added* to the scores.  A key that an integer mask hides gets
``mask_filter_value`` (-10000 unless the node says otherwise), one that causal order hides the lowest number.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt._torch import statically_known_true
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op


@contrib_op("Attention", ignores=("rotary_embedding_dim",))
def attention(
    call: Call,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    past: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
    past_length: torch.Tensor | None = None,
) -> Any:
    """Self-attention from the layer's input: x [B, S, I], weight [I, Hq + Hk + Hv], bias [Hq + Hk + Hv].

    ``past`` and the second output are keys and values, [2, B, N, P, D].  Masks: see :func:`mask_bias`.
    """
    if call.flag("past_present_share_buffer") or past_length is not None:
        raise call.error("writes to a cache of fixed length, which is not supported")
    if call.flag("do_rotary"):
        raise call.error("rotates queries and keys itself, which onnxruntime's CPU kernel does not do")
    heads = call.int("num_heads")
    width = weight.shape[1]
    sizes = call.ints("qkv_hidden_sizes") or [width // 3] * 3
    projected = torch.matmul(x, weight)
    projected = projected if bias is None else projected + bias
    query, key, value = (split_heads(t, heads) for t in projected.split(sizes, dim=-1))
    if past is not None:
        key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
    joined = join_biases(call, query, key, mask, added)
    y = F.scaled_dot_product_attention(query, key, value, joined, scale=call.float("scale") or None)
    present = torch.stack([key, value]) if call.wants(1) else None
    return merge_heads(y), present


@contrib_op("MultiHeadAttention")
def multi_head_attention(
    call: Call,
    query: torch.Tensor,
    key: torch.Tensor | None = None,
    value: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
    past_key: torch.Tensor | None = None,
    past_value: torch.Tensor | None = None,
    past_length: torch.Tensor | None = None,
    beams: torch.Tensor | None = None,
) -> Any:
    """Attention of projected operands.

    query [B, S, H], key [B, L, H] and value [B, L, Hv]; or packed, [B, S, N, 3, D] and [B, L, N, 2, D]; or
    key and value as a cache has them, [B, N, L, D].  Caches are [B, N, P, D], bias [H + H + Hv].
    """
    if past_length is not None or beams is not None:
        raise call.error("writes to a cache of fixed length, which is not supported")
    if call.wants(3):
        raise call.error("has an output for the scores, which is not supported")
    heads = call.int("num_heads")
    q, k, v = _unpacked(query, key, value, heads)
    if bias is not None:
        width = heads * q.shape[-1]
        parts = bias.split([width, width, bias.shape[0] - 2 * width])
        q, k, v = (t + part.reshape(1, heads, 1, -1) for t, part in zip((q, k, v), parts, strict=True))
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], dim=2), torch.cat([past_value, v], dim=2)
    joined = join_biases(call, q, k, mask, added)
    y = F.scaled_dot_product_attention(q, k, v, joined, scale=call.float("scale") or None)
    return merge_heads(y), k, v


def _unpacked(
    query: torch.Tensor, key: torch.Tensor | None, value: torch.Tensor | None, heads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key and value as [B, N, length, D]."""
    if query.ndim == 5:
        q, k, v = (t.transpose(1, 2) for t in query.unbind(3))
        return q, k, v
    q = split_heads(query, heads)
    assert key is not None
    if key.ndim == 5:
        k, v = (t.transpose(1, 2) for t in key.unbind(3))
        return q, k, v
    assert value is not None
    if key.ndim == 4:
        return q, key, value
    return q, split_heads(key, heads), split_heads(value, heads)


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, S, N*D] -> [B, N, S, D]."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """[B, N, S, D] -> [B, S, N*D]."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def join_biases(
    call: Call,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    added: torch.Tensor | None,
) -> torch.Tensor | None:
    """Everything that is added to the scores [B, N, S, T], or None."""
    total = None if mask is None else mask_bias(call, mask, query, key)
    if call.flag("unidirectional"):
        past = key.shape[2] - query.shape[2]
        row = torch.arange(query.shape[2], device=query.device).unsqueeze(1) + past
        hidden = torch.arange(key.shape[2], device=query.device) > row
        lowest = torch.finfo(query.dtype).min
        # onnxruntime sets the lowest number over what the mask gave.
        total = (
            torch.zeros(hidden.shape, dtype=query.dtype).masked_fill(hidden, lowest)
            if total is None
            else total.masked_fill(hidden, lowest)
        )
    if added is not None:
        total = added if total is None else total + added
    return total


def mask_bias(call: Call, mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """An integer mask as a term of the scores, to broadcast against [B, N, S, T].

    The mask is [B, T] or [B, S, T], 0 where hidden; or [B], the number of keys that are seen; or [2 * B],
    the ends, then the starts of what is seen.
    """
    total = key.shape[2]
    if mask.ndim == 1:
        position = torch.arange(total, device=mask.device)
        if statically_equal(mask.shape[0], query.shape[0]):
            visible = position < mask.unsqueeze(1)
        elif statically_equal(mask.shape[0], 2 * query.shape[0]):
            ends, starts = mask.reshape(2, -1).unsqueeze(-1)
            visible = (position < ends) & (position >= starts)
        else:
            raise call.error(f"has a mask of shape {list(mask.shape)}, which is not supported")
        visible = visible[:, None, None]
    elif mask.ndim in (2, 3):
        visible = (mask > 0)[:, None, None] if mask.ndim == 2 else (mask > 0)[:, None]
    else:
        raise call.error(f"has a mask of rank {mask.ndim}, which is not supported")
    hidden = call.float("mask_filter_value", -10000.0)
    zero = torch.zeros((), dtype=query.dtype, device=query.device)
    return torch.where(visible, zero, torch.full_like(zero, hidden))


def statically_equal(a: Any, b: Any) -> bool:
    """Whether two sizes are equal whatever the dynamic dimensions are."""
    return bool(a == b) if isinstance(a, int) and isinstance(b, int) else statically_known_true(a == b)
