"""Attention with grouped key/value heads and a cap on the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphopt.dialect.onnx_nodes import (
    OnnxValue,
    integers,
    is_half,
    opmath_type,
    positions,
    scalar,
    to_opmath,
)
from graphopt.dialect.op import Autograd, DialectOp, OnnxForm, RelaxForm, Sample
from graphopt.dialect.operands import check_broadcasts, check_floating, draw, opmath, reject, sum_to
from graphopt.dialect.registry import register
from graphopt.dialect.relax_kernels import broadcast_index, dtype_of, opmath_dtype

_NAME = "attention"


def _check(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    is_causal: bool,
    softcap: float,
) -> None:
    check_floating(_NAME, query=query, key=key, value=value)
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.dim() != 4:
            raise reject(
                _NAME, f"{name} has shape {tuple(tensor.shape)}, it must be [batch, heads, seq, dim]"
            )
    if query.shape[0] != key.shape[0] or tuple(key.shape[:3]) != tuple(value.shape[:3]):
        raise reject(
            _NAME,
            "batch, key/value heads and key/value length differ: query "
            f"{tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}",
        )
    if query.shape[3] != key.shape[3]:
        raise reject(_NAME, f"query has head size {query.shape[3]}, key {key.shape[3]}")
    if query.shape[1] % key.shape[1]:
        raise reject(
            _NAME, f"{query.shape[1]} query heads are not a multiple of {key.shape[1]} key/value heads"
        )
    if mask is not None:
        if mask.dtype not in (torch.bool, query.dtype):
            raise reject(_NAME, f"mask is {mask.dtype}, it must be torch.bool or {query.dtype}")
        scores = (*query.shape[:3], key.shape[2])
        check_broadcasts(_NAME, "mask", mask.shape, "the scores", scores)
    if softcap < 0:
        raise reject(_NAME, f"softcap is {softcap}, it must be positive, or 0 for none")


def _causal(scores: torch.Tensor) -> torch.Tensor:
    """True where query i may see key j: ``j <= i``, aligned at the start as in ATen."""
    length, width = scores.shape[-2:]
    rows = torch.arange(length, device=scores.device).unsqueeze(-1)
    return rows >= torch.arange(width, device=scores.device)


def _capped(query: torch.Tensor, key: torch.Tensor, scale: float, softcap: float) -> torch.Tensor:
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale
    return softcap * torch.tanh(scores / softcap) if softcap else scores


def _probabilities(scores: torch.Tensor, mask: torch.Tensor | None, is_causal: bool) -> torch.Tensor:
    """Masked softmax over keys; a query that may see no key gets zeros, not NaN."""
    if is_causal:
        scores = scores.masked_fill(~_causal(scores), -torch.inf)
    if mask is None:
        return torch.softmax(scores, -1)
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    blind = scores.amax(-1, keepdim=True) == -torch.inf
    return torch.softmax(scores.masked_fill(blind, 0.0), -1).masked_fill(blind, 0.0)


def _grouped_mask(mask: torch.Tensor | None, kv_heads: int) -> torch.Tensor | None:
    """The mask with its head axis split into ``[kv_heads, group]``, to broadcast over grouped scores."""
    if mask is None or mask.dim() < 3:
        return mask
    if mask.shape[-3] == 1:
        return mask.unsqueeze(-3)
    return mask.unflatten(-3, (kv_heads, mask.shape[-3] // kv_heads))


def _grouped(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """``[B, Hq, S, D]`` as ``[B, Hkv, Hq/Hkv, S, D]``: query head h reads key/value head h // group."""
    return query.unflatten(1, (key.shape[1], query.shape[1] // key.shape[1]))


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    is_causal: bool,
    softcap: float,
) -> torch.Tensor:
    """``softmax(cap(scale * Q K^T) + mask) V`` with each key/value head shared by a group of queries.

    ``cap(s) = softcap * tanh(s / softcap)`` comes before the mask, as in Gemma 2.  A query that the
    mask lets see no key gets zeros, as in ``aten.scaled_dot_product_attention``.

    Args:
        query: ``[B, Hq, S, D]``, floating point; half precision is computed in float32.
        key: ``[B, Hkv, T, D]``, Hkv a divisor of Hq; query head h reads head ``h // (Hq / Hkv)``.
        value: ``[B, Hkv, T, E]``.
        mask: broadcasts to ``[B, Hq, S, T]``; bool, True where a key is seen, or of the dtype of
            ``query``, added to the scores.
        scale: factor of the scores.  No default: pruning ``D`` must not change it.
        is_causal: query i sees keys up to i, aligned at the start, besides what ``mask`` says.
        softcap: bound of the scores' magnitude, or 0 for none.

    Returns:
        ``[B, Hq, S, E]`` in the dtype of ``query``.
    """
    q, k, v = opmath(_grouped(query, key)), opmath(key).unsqueeze(2), opmath(value).unsqueeze(2)
    scores = _capped(q, k, scale, softcap)
    p = _probabilities(scores, _opmask(mask, key), is_causal)
    return torch.matmul(p, v).flatten(1, 2).to(query.dtype)


def _opmask(mask: torch.Tensor | None, key: torch.Tensor) -> torch.Tensor | None:
    grouped = _grouped_mask(mask, key.shape[1])
    return None if grouped is None else opmath(grouped)


def _fake(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any) -> torch.Tensor:
    return query.new_empty((*query.shape[:3], value.shape[3]))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    query, key, value, mask, ctx.scale, ctx.is_causal, ctx.softcap = inputs
    ctx.save_for_backward(query, key, value, mask)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    query, key, value, mask = ctx.saved_tensors
    q, k, v = opmath(_grouped(query, key)), opmath(key).unsqueeze(2), opmath(value).unsqueeze(2)
    g = opmath(_grouped(grad, key))
    capped = _capped(q, k, ctx.scale, ctx.softcap)
    p = _probabilities(capped, _opmask(mask, key), ctx.is_causal)
    grad_p = torch.matmul(g, v.transpose(-1, -2))
    grad_masked = p * (grad_p - (grad_p * p).sum(-1, keepdim=True))
    grad_mask = None
    if mask is not None and mask.is_floating_point():
        grad_mask = sum_to(grad_masked.flatten(1, 2), mask.shape).to(mask.dtype)
    grad_scores = grad_masked * ctx.scale
    if ctx.softcap:
        grad_scores = grad_scores * (1 - (capped / ctx.softcap) ** 2)
    grad_query = torch.matmul(grad_scores, k).flatten(1, 2)
    grad_key = torch.matmul(grad_scores.transpose(-1, -2), q).sum(2)
    grad_value = torch.matmul(p.transpose(-1, -2), g).sum(2)
    return (
        grad_query.to(query.dtype),
        grad_key.to(key.dtype),
        grad_value.to(value.dtype),
        grad_mask,
        None,
        None,
        None,
    )


def _onnx(
    query: OnnxValue,
    key: OnnxValue,
    value: OnnxValue,
    mask: OnnxValue,
    scale: float,
    is_causal: bool,
    softcap: float,
) -> OnnxValue:
    # Basic nodes, not Attention of opset 23: that one caps the scores after the mask.
    import onnx_ir
    from onnxscript import opset18 as op

    kv_heads, heads, dtype = _static_heads(key), _static_heads(query), opmath_type(query)
    group = heads // kv_heads
    q = op.Reshape(to_opmath(query), integers(0, kv_heads, group, -1, int(query.shape[3])))
    k, v = (op.Unsqueeze(to_opmath(t), integers(2)) for t in (key, value))
    turned = op.Transpose(k, perm=[0, 1, 2, 4, 3])
    if dtype == onnx_ir.DataType.DOUBLE:
        # onnxruntime fuses one number into a MatMul whose factor is float32; a row of them it leaves alone.
        row = op.Expand(scalar(scale / (softcap or 1.0), dtype), integers(int(query.shape[3])))
        scores = op.MatMul(op.Mul(q, row), turned)
    else:
        scores = op.Mul(op.MatMul(q, turned), scalar(scale, dtype))
        scores = op.Div(scores, scalar(softcap, dtype)) if softcap else scores
    if softcap:
        scores = op.Mul(scalar(softcap, dtype), op.Tanh(scores))
    minus_infinity = scalar(-float("inf"), dtype)
    if is_causal:
        rows = op.Unsqueeze(positions(query, axis=2), integers(1))
        seen = op.GreaterOrEqual(rows, positions(key, axis=2))
        scores = op.Where(seen, scores, minus_infinity)
    if mask is None:
        p = op.Softmax(scores, axis=-1)
    else:
        boolean = mask.dtype == onnx_ir.DataType.BOOL
        rank = len(mask.shape)
        grouped = mask if boolean else to_opmath(mask)
        if rank >= 3:
            mask_heads = _static_heads(mask, axis=rank - 3)
            split = [1, 1] if mask_heads == 1 else [kv_heads, group]
            lead = [0] if rank == 4 else []
            tail = op.Shape(mask, start=rank - 2)
            grouped = op.Reshape(grouped, op.Concat(integers(*lead, *split), tail, axis=0))
        scores = op.Where(grouped, scores, minus_infinity) if boolean else op.Add(scores, grouped)
        blind = op.Equal(op.ReduceMax(scores, integers(-1), keepdims=1), minus_infinity)
        zero = scalar(0.0, dtype)
        p = op.Where(blind, zero, op.Softmax(op.Where(blind, zero, scores), axis=-1))
    y = op.Reshape(op.MatMul(p, v), integers(0, heads, -1, int(value.shape[3])))
    return op.CastLike(y, query) if is_half(query) else y


def _static_heads(value: OnnxValue, axis: int = 1) -> int:
    heads = value.shape[axis]
    if not isinstance(heads, int):
        raise reject(_NAME, f"the ONNX form needs a fixed number of heads, not {heads}")
    return heads


def _relax(
    bb: Any, query: Any, key: Any, value: Any, mask: Any, scale: float, is_causal: bool, softcap: float
) -> Any:
    from tvm import relax, te, tirx

    from graphopt.codegen.relax.scalars import exp

    batch, heads, length, width = query.ty.shape
    kv_heads, keys, value_width = key.ty.shape[1], key.ty.shape[2], value.ty.shape[3]
    group = heads // kv_heads
    stored = dtype_of(query)
    dtype = opmath_dtype(stored)
    if dtype != stored:
        query, key, value = (bb.emit(relax.op.astype(t, dtype)) for t in (query, key, value))

    # All queries of a group as rows of one matrix: one batched matmul a key/value head, no copies.
    rows = bb.emit(relax.op.reshape(query, (batch, kv_heads, group * length, width)))
    products = bb.emit(relax.op.matmul(rows, relax.op.permute_dims(key, [0, 1, 3, 2])))
    # The kernels below name every axis: a symbolic size must be an axis of some operand.
    products = bb.emit(relax.op.reshape(products, (batch, heads, length, keys)))

    def masked(products: Any, *masks: Any) -> Any:
        minus_infinity = tirx.const(-float("inf"), dtype)

        def score(b: Any, h: Any, i: Any, j: Any) -> Any:
            s = products(b, h, i, j) * tirx.const(scale, dtype)
            if softcap:
                s = tirx.const(softcap, dtype) * te.tanh(s / tirx.const(softcap, dtype))
            for mask in masks:
                entry = mask(*broadcast_index(mask.shape, (b, h, i, j)))
                boolean = str(mask.dtype) == "bool"
                s = tirx.if_then_else(entry, s, minus_infinity) if boolean else s + entry.astype(dtype)
            return tirx.if_then_else(j <= i, s, minus_infinity) if is_causal else s

        return te.compute(products.shape, score, name="scores")

    def softmax(scores: Any) -> Any:
        lead = scores.shape[:-1]
        j = te.reduce_axis((0, scores.shape[-1]), "j")
        top = te.compute(lead, lambda *i: te.max(scores(*i, j), axis=j), name="top")
        # Without this a row that sees nothing would be exp(-inf + inf).
        floor = tirx.min_value(dtype)
        # The largest term of a row that sees something is 1, so this changes no other total.
        tiny = 2.0**-100
        jj = te.reduce_axis((0, scores.shape[-1]), "jj")

        def power(*i: Any) -> Any:
            return exp(scores(*i) - tirx.max(top(*i[:-1]), floor))

        total = te.compute(lead, lambda *i: te.sum(power(*i, jj), axis=jj), name="total")
        return te.compute(
            scores.shape,
            lambda *i: power(*i) / tirx.max(total(*i[:-1]), tirx.const(tiny, dtype)),
            name="probabilities",
        )

    masks = [] if mask is None else [mask]
    scores = bb.emit_te(masked, products, *masks, primfunc_name_hint="attention_scores")
    probabilities = bb.emit_te(softmax, scores, primfunc_name_hint="attention_softmax")
    weights = bb.emit(relax.op.reshape(probabilities, (batch, kv_heads, group * length, keys)))
    mixed = bb.emit(relax.op.matmul(weights, value))
    y = bb.emit(relax.op.reshape(mixed, (batch, heads, length, value_width)))
    return bb.emit(relax.op.astype(y, stored)) if dtype != stored else y


def _samples() -> Sequence[Sample]:
    def qkv(batch: int, heads: int, kv_heads: int, length: int, keys: int, width: int, value: int) -> Any:
        return (
            draw(batch, heads, length, width),
            draw(batch, kv_heads, keys, width, seed=1),
            draw(batch, kv_heads, keys, value, seed=2),
        )

    gqa = qkv(2, 4, 2, 5, 5, 8, 8)
    cross = qkv(2, 4, 2, 3, 6, 4, 5)
    self_dims = dict.fromkeys(range(3), ("batch", None, "seq", None))
    cross_dims = {0: ("batch", None, "seq", None)} | dict.fromkeys((1, 2), ("batch", None, "keys", None))
    seen = draw(2, 1, 3, 6, seed=3) > -0.5
    seen[0, 0, 1] = False
    padding = torch.zeros(2, 1, 1, 6)
    padding[1, ..., 4:] = -torch.inf
    return (
        Sample("gqa_causal", (*gqa, None, 0.35, True, 0.0), self_dims),
        Sample("gqa_softcap", (*gqa, None, 0.35, True, 2.0), self_dims),
        Sample("multi_query", (*qkv(1, 4, 1, 3, 5, 4, 4), None, 0.5, False, 0.0)),
        Sample("multi_head", (*qkv(2, 3, 3, 4, 4, 6, 6), None, 0.4, False, 1.5)),
        Sample(
            "bool_mask",
            (*cross, seen, 0.5, False, 0.0),
            cross_dims | {3: ("batch", None, "seq", "keys")},
        ),
        Sample(
            "float_mask",
            (*cross, draw(2, 4, 3, 6, seed=4), 0.5, False, 1.0),
            cross_dims | {3: ("batch", None, "seq", "keys")},
        ),
        Sample("padding_mask", (*cross, padding, 0.5, False, 0.0), differentiable=False),
        Sample("matrix_mask", (*cross, draw(3, 6, seed=4) > 0, 0.5, True, 0.0)),
        Sample("heads_mask", (*cross, draw(4, 1, 6, seed=4), 0.5, False, 0.0)),
        Sample("small", (*qkv(1, 2, 1, 2, 3, 2, 1), draw(2, 3, seed=4), 0.8, False, 1.2)),
        Sample("decode_step", (*qkv(1, 4, 2, 1, 7, 4, 4), None, 0.5, False, 0.0)),
        Sample("blind", (*cross, torch.zeros(3, 6, dtype=torch.bool), 0.5, False, 0.0), differentiable=False),
    )


ATTENTION = register(
    DialectOp(
        name=_NAME,
        schema=(
            "(Tensor query, Tensor key, Tensor value, Tensor? mask, float scale, bool is_causal, "
            "float softcap) -> Tensor"
        ),
        summary="attention with grouped key/value heads and capped scores",
        source="Ainslie et al. 2023 (arXiv 2305.13245); softcap as in Gemma 2 (arXiv 2408.00118)",
        check=_check,
        reference=attention,
        fake=_fake,
        autograd=Autograd(_setup, _backward),
        onnx=OnnxForm(_onnx, dtypes=(torch.float32, torch.float64, torch.float16)),
        relax=RelaxForm(_relax),
        samples=_samples,
    )
)
