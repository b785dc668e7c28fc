"""Grouped-query attention with a cache, as model builders for onnxruntime write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.attention import merge_heads, split_heads, statically_equal
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op
from graphopt.frontends.onnx.converters.contrib.rotary import rotate
from graphopt.frontends.onnx.registry import VALUE
from graphopt.frontends.onnx.values import Constant, HostValue, Value

_REFUSED = {"sliding_window_cache": 0, "qk_output": 0, "kv_cache_bit_width": 0}


@dataclass(frozen=True)
class _Step:
    """Where the new tokens of each sequence stand.

    Attributes:
        before: tokens in front of the new ones, int64 [B, 1].
        positions: of the new tokens, int64 [B, S].
        length: of the cache that comes out.
    """

    before: torch.Tensor
    positions: torch.Tensor
    length: Any


@contrib_op("GroupQueryAttention", kinds={6: VALUE}, ignores=("qk_norm_epsilon",))
def group_query_attention(
    call: Call,
    query: torch.Tensor,
    key: torch.Tensor | None,
    value: torch.Tensor | None,
    past_key: torch.Tensor | None,
    past_value: torch.Tensor | None,
    last_key: torch.Tensor,
    total_length: Value,
    cos: torch.Tensor | None = None,
    sin: torch.Tensor | None = None,
    positions: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
    sink: torch.Tensor | None = None,
    *quantized: torch.Tensor | None,
) -> Any:
    """Causal attention of H query heads over K key heads; outputs the result and the two caches.

    query [B, S, H*D], key and value [B, S, K*D], or all three packed in query [B, S, (H + 2 K) * D]; caches
    [B, K, P, D]; ``last_key`` int32 [B], index of each sequence's last token; ``total_length`` int32, the
    most tokens that a sequence has by now.  A cache of fixed length P keeps it, another grows by S.
    """
    _refuse_unsupported(call, quantized)
    heads, groups = call.int("num_heads"), call.int("kv_num_heads")
    if key is None or value is None:
        width = query.shape[2] // (heads + 2 * groups)
        query, key, value = query.split([heads * width, groups * width, groups * width], dim=2)
    q, k, v = split_heads(query, heads), split_heads(key, groups), split_heads(value, groups)
    step = _step(call, q, past_key, last_key, total_length)
    if call.flag("do_rotary"):
        assert cos is not None and sin is not None
        where = step.positions if positions is None else positions
        turned = (F.embedding(where, cos), F.embedding(where, sin), call.flag("rotary_interleaved"))
        q, k = rotate(q, *turned), rotate(k, *turned)
    k, v = _appended(past_key, k, step), _appended(past_value, v, step)
    bias = _visible(call, step, k.shape[2])
    if added is not None:
        # A bias for the tokens so far; a longer cache is hidden behind them.
        missing = k.shape[2] - added.shape[-1]
        added = added if statically_equal(missing, 0) else F.pad(added, [0, missing])
        bias = torch.where(bias, added, float("-inf"))
    softcap = call.float("softcap", 0.0)
    if not softcap and sink is None and not call.flag("smooth_softmax"):
        scale = call.float("scale") or None
        y = F.scaled_dot_product_attention(q, k, v, bias, scale=scale, enable_gqa=heads != groups)
    else:
        y = _explicit(call, q, k, v, bias, sink)
    return merge_heads(y), k, v


def _refuse_unsupported(call: Call, quantized: tuple[torch.Tensor | None, ...]) -> None:
    for name, plain in _REFUSED.items():
        if call.int(name, plain) != plain:
            raise call.error(f"has {name} = {call.int(name)}, which is not supported")
    for name in ("k_quant_type", "v_quant_type"):
        if call.str(name, "NONE") != "NONE":
            raise call.error(f"has {name} = {call.str(name)}, which is not supported")
    if any(tensor is not None for tensor in quantized):
        raise call.error("has scales of a quantised cache or norms of heads, which are not supported")
    if call.int("causal", 1) != 1:
        raise call.error("is not causal, which is not supported")


def _step(
    call: Call, q: torch.Tensor, past: torch.Tensor | None, last_key: torch.Tensor, total: Value
) -> _Step:
    batch, new = q.shape[0], q.shape[2]
    offsets = torch.arange(new, device=q.device).unsqueeze(0)
    capacity: Any = 0 if past is None else past.shape[2]
    if statically_equal(capacity, 0):
        before = torch.zeros([batch, 1], dtype=torch.int64, device=q.device)
        return _Step(before, before + offsets, new)
    before = last_key.reshape(-1, 1).to(torch.int64) + 1 - new
    if isinstance(capacity, int):
        # A buffer of fixed length.  The first call gives as many tokens as there are by then.
        first = _as_number(call, total) == new
        before = torch.where(first, 0, before) if isinstance(first, torch.Tensor) else before * (not first)
        return _Step(before, before + offsets, capacity)
    length = capacity + new
    known = _as_number(call, total)
    if not isinstance(known, torch.Tensor) and not statically_equal(known, length):
        if known != length:
            raise call.size_error("needs a cache of all earlier tokens", known - new, capacity)
    return _Step(before, before + offsets, length)


def _as_number(call: Call, value: Value) -> Any:
    """A size that the graph computes: a number where it is known, else a tensor."""
    if isinstance(value, HostValue):
        return value.number()
    if isinstance(value, Constant):
        host = value.host()
        if host is not None:
            return host.number()
    if not isinstance(value, torch.Tensor):
        raise call.error("has no total sequence length")
    return value.reshape(())


def _appended(past: torch.Tensor | None, new: torch.Tensor, step: _Step) -> torch.Tensor:
    """The cache with the new keys behind each sequence's own; a shorter sequence leaves room at the end."""
    if past is None or statically_equal(past.shape[2], 0):
        return new
    both = torch.cat([past, new], dim=2)
    place = torch.arange(step.length, device=new.device).unsqueeze(0)
    # Slots before `before` come from the cache, the next ones from the new keys.
    source = torch.where(place < step.before, place, place - step.before + past.shape[2])
    source = torch.where(place < step.before + new.shape[2], source, place)
    index = source.clamp(max=both.shape[2] - 1)[:, None, :, None]
    return both.gather(2, index.expand(both.shape[0], both.shape[1], step.length, both.shape[3]))


def _visible(call: Call, step: _Step, length: Any) -> torch.Tensor:
    """Which keys each new token sees, bool [B, 1, S, T]."""
    row = step.positions.unsqueeze(-1)
    column = torch.arange(length, device=row.device)
    visible = column <= row
    window = call.int("local_window_size", -1)
    if window >= 0:
        visible = visible & (column > row - window)
    return visible.unsqueeze(1)


def _explicit(
    call: Call,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    bias: torch.Tensor,
    sink: torch.Tensor | None,
) -> torch.Tensor:
    """Capped scores, and a sink that takes part in the softmax (0, or one number a head)."""
    repeats = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    scale = call.float("scale") or q.shape[-1] ** -0.5
    scores = torch.matmul(q, k.transpose(-1, -2)) * scale
    softcap = call.float("softcap", 0.0)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if bias.dtype == torch.bool:
        scores = torch.where(bias, scores, float("-inf"))
    else:
        scores = scores + bias
    if sink is None and not call.flag("smooth_softmax"):
        return torch.matmul(torch.softmax(scores, dim=-1), v)
    shape = [*scores.shape[:-1], 1]
    column = scores.new_zeros(shape) if sink is None else sink.to(q.dtype).reshape(1, -1, 1, 1).expand(shape)
    weights = torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)
    return torch.matmul(weights[..., :-1], v)
