"""Rotary position embedding, with the angles given as cosines and sines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphopt.dialect.onnx_nodes import OnnxValue, integers, is_half, to_opmath
from graphopt.dialect.op import Autograd, DialectOp, OnnxForm, RelaxForm, Sample
from graphopt.dialect.operands import (
    check_broadcasts,
    check_floating,
    draw,
    fake_like,
    opmath,
    reject,
    sum_to,
)
from graphopt.dialect.registry import register
from graphopt.dialect.relax_kernels import broadcast_index, opmath_dtype


def _rotated_width(x: Any, rotary_dim: int) -> Any:
    return rotary_dim or x.shape[-1]


def _check(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool, rotary_dim: int) -> None:
    name = "rotary_embedding"
    check_floating(name, x=x, cos=cos, sin=sin)
    if x.dim() < 1 or cos.dim() < 1:
        raise reject(name, "x and cos need a last dimension to rotate")
    width = _rotated_width(x, rotary_dim)
    if width % 2 or width < 2:
        raise reject(name, f"{width} channels cannot be rotated in pairs")
    if rotary_dim < 0 or width > x.shape[-1]:
        raise reject(name, f"rotary_dim is {rotary_dim}, x has {x.shape[-1]} channels")
    if tuple(cos.shape) != tuple(sin.shape):
        raise reject(name, f"cos has shape {tuple(cos.shape)}, sin {tuple(sin.shape)}")
    if cos.shape[-1] != width and cos.shape[-1] != width // 2:
        raise reject(
            name,
            f"cos has {cos.shape[-1]} channels, {width} rotated channels need {width} or {width // 2}",
        )
    check_broadcasts(name, "cos", cos.shape[:-1], "the leading dimensions of x", x.shape[:-1])


def _rotate(x: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """A quarter turn of each pair: ``(a, b) -> (-b, a)``."""
    if interleaved:
        return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).reshape(x.shape)
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def _per_channel(angles: torch.Tensor, width: int, interleaved: bool) -> torch.Tensor:
    """Cosines or sines with one entry for each channel, from one for each channel or each pair."""
    if angles.shape[-1] == width:
        return angles
    if interleaved:
        return torch.stack((angles, angles), dim=-1).reshape(*angles.shape[:-1], width)
    return torch.cat((angles, angles), dim=-1)


def rotary_embedding(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool, rotary_dim: int
) -> torch.Tensor:
    """``x * cos + rotate(x) * sin`` on the first ``rotary_dim`` channels; the rest pass through.

    Args:
        x: ``[..., D]``, floating point, as ``[batch, heads, seq, D]``; half precision is computed in
            float32.
        cos: ``[..., R]`` or ``[..., R/2]`` in the dtype of ``x``, R rotated channels; the leading
            dimensions broadcast to those of ``x``.  With R/2 entries a pair shares one, as in ONNX
            RotaryEmbedding; with R entries each channel has its own, as in Hugging Face models.
        sin: as ``cos``, of the same shape.
        interleaved: pairs are channels ``(2i, 2i+1)``; otherwise ``(i, i + R/2)``.
        rotary_dim: number of channels rotated, even; 0 for all.

    Returns:
        ``[..., D]`` in the dtype of ``x``.
    """
    width = _rotated_width(x, rotary_dim)
    turned = opmath(x[..., :width])
    c, s = (_per_channel(opmath(angles), width, interleaved) for angles in (cos, sin))
    y = (turned * c + _rotate(turned, interleaved) * s).to(x.dtype)
    return y if width == x.shape[-1] else torch.cat((y, x[..., width:]), dim=-1)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, cos, sin, ctx.interleaved, ctx.rotary_dim = inputs
    ctx.save_for_backward(x, cos, sin)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    x, cos, sin = ctx.saved_tensors
    width = _rotated_width(x, ctx.rotary_dim)
    turned, g = opmath(x[..., :width]), opmath(grad[..., :width])
    c, s = (_per_channel(opmath(angles), width, ctx.interleaved) for angles in (cos, sin))
    # A quarter turn is antisymmetric: its transpose turns the other way.
    grad_x = (g * c - _rotate(g * s, ctx.interleaved)).to(x.dtype)
    if width != x.shape[-1]:
        grad_x = torch.cat((grad_x, grad[..., width:]), dim=-1)
    grad_cos = _to_angles(g * turned, cos, ctx.interleaved)
    grad_sin = _to_angles(g * _rotate(turned, ctx.interleaved), sin, ctx.interleaved)
    return grad_x, grad_cos, grad_sin, None, None


def _to_angles(grad: torch.Tensor, angles: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """The gradient of :func:`_per_channel` and of the broadcast."""
    if angles.shape[-1] != grad.shape[-1]:
        pairs = (*grad.shape[:-1], -1, 2) if interleaved else (*grad.shape[:-1], 2, angles.shape[-1])
        grad = grad.reshape(pairs).sum(-1 if interleaved else -2)
    return sum_to(grad, angles.shape).to(angles.dtype)


def _onnx(x: OnnxValue, cos: OnnxValue, sin: OnnxValue, interleaved: bool, rotary_dim: int) -> OnnxValue:
    # Elementwise nodes, not RotaryEmbedding of opset 23: that one takes position-indexed caches of
    # R/2 columns and rank 3 or 4 only, and this form runs from opset 18 on.
    from onnxscript import opset18 as op

    width = int(_rotated_width(x, rotary_dim))
    partial = width != x.shape[-1]
    wide = to_opmath(x)
    turned = op.Slice(wide, integers(0), integers(width), integers(-1)) if partial else wide

    def halves(value: OnnxValue) -> tuple[OnnxValue, OnnxValue]:
        """First and second channel of every pair."""
        if interleaved:
            bounds = ((0, width, 2), (1, width, 2))
        else:
            bounds = ((0, width // 2, 1), (width // 2, width, 1))
        first, second = (
            op.Slice(value, integers(start), integers(end), integers(-1), integers(step))
            for start, end, step in bounds
        )
        return first, second

    one_a_pair = cos.shape[-1] != width
    cos, sin = to_opmath(cos), to_opmath(sin)
    cos1, cos2 = (cos, cos) if one_a_pair else halves(cos)
    sin1, sin2 = (sin, sin) if one_a_pair else halves(sin)
    a, b = halves(turned)
    new_a = op.Sub(op.Mul(a, cos1), op.Mul(b, sin1))
    new_b = op.Add(op.Mul(b, cos2), op.Mul(a, sin2))
    if interleaved:
        pairs = op.Concat(op.Unsqueeze(new_a, integers(-1)), op.Unsqueeze(new_b, integers(-1)), axis=-1)
        y = op.Reshape(pairs, op.Shape(turned))
    else:
        y = op.Concat(new_a, new_b, axis=-1)
    if is_half(x):
        y = op.CastLike(y, x)
    if not partial:
        return y
    rest = op.Slice(x, integers(width), integers(int(x.shape[-1])), integers(-1))
    return op.Concat(y, rest, axis=-1)


def _relax(bb: Any, x: Any, cos: Any, sin: Any, interleaved: bool, rotary_dim: int) -> Any:
    from tvm import te, tirx

    def compute(x: Any, cos: Any, sin: Any) -> Any:
        width = int(_rotated_width(x, rotary_dim))
        half = width // 2
        one_a_pair = int(cos.shape[-1]) != width

        def angle(table: Any, lead: tuple[Any, ...], channel: Any, pair: Any) -> Any:
            index = broadcast_index(table.shape[:-1], lead)
            return table(*index, pair if one_a_pair else channel)

        stored = str(x.dtype)
        dtype = opmath_dtype(stored)

        def element(tensor: Any, *i: Any) -> Any:
            return tensor(*i).astype(dtype)

        def rotate(*i: Any) -> Any:
            # Channels that pass through take some valid angle and drop the result.
            lead, channel = i[:-1], i[-1] if rotary_dim == 0 else i[-1] % width
            if interleaved:
                pair, first = channel // 2, channel % 2 == 0
                partner = tirx.if_then_else(first, channel + 1, channel - 1)
            else:
                pair, first = channel % half, channel < half
                partner = tirx.if_then_else(first, channel + half, channel - half)
            other = element(x, *lead, partner)
            turn = tirx.if_then_else(first, -other, other)
            c, s = (angle(table, lead, channel, pair).astype(dtype) for table in (cos, sin))
            y = (element(x, *i) * c + turn * s).astype(stored)
            return y if rotary_dim == 0 else tirx.if_then_else(i[-1] < width, y, x(*i))

        return te.compute(x.shape, rotate, name="rotary")

    return bb.emit_te(compute, x, cos, sin, primfunc_name_hint="rotary_embedding")


def _samples() -> Sequence[Sample]:
    def angles(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
        theta = draw(*shape, seed=5, scale=2.0)
        return theta.cos(), theta.sin()

    x = draw(2, 3, 5, 8)
    twice = tuple(torch.cat((t, t), -1) for t in angles(2, 1, 5, 4))
    bshd = {0: ("batch", None, "seq", None)}
    by_row = bshd | {1: ("batch", None, "seq", None), 2: ("batch", None, "seq", None)}
    shared = bshd | {1: ("seq", None), 2: ("seq", None)}
    return (
        Sample("half_split", (x, *twice, False, 0), by_row),
        Sample("half_split_own_angles", (x, *angles(2, 1, 5, 8), False, 0), by_row),
        Sample("half_split_pairs", (x, *angles(5, 4), False, 0), shared),
        Sample("interleaved_pairs", (x, *angles(5, 4), True, 0), shared),
        Sample("interleaved_own_angles", (x, *angles(1, 1, 5, 8), True, 0)),
        Sample("partial", (draw(2, 3, 5, 10), *angles(2, 1, 5, 4), False, 4), by_row),
        Sample("partial_interleaved", (draw(2, 3, 5, 10), *angles(2, 1, 5, 3), True, 6), by_row),
        Sample("seq_before_heads", (draw(2, 5, 3, 8), *angles(2, 5, 1, 8), False, 0)),
        Sample("one_position", (draw(1, 2, 1, 4), *angles(1, 1, 1, 4), False, 0)),
        Sample("one_pair", (draw(3, 2), *angles(1, 1), True, 0)),
    )


ROTARY_EMBEDDING = register(
    DialectOp(
        name="rotary_embedding",
        schema="(Tensor x, Tensor cos, Tensor sin, bool interleaved, int rotary_dim) -> Tensor",
        summary="rotary position embedding, half-split or interleaved, whole or partial",
        source="Su et al. 2021 (arXiv 2104.09864); layouts as in Hugging Face and ONNX RotaryEmbedding-23",
        check=_check,
        reference=rotary_embedding,
        fake=fake_like,
        autograd=Autograd(_setup, _backward),
        onnx=OnnxForm(_onnx),
        relax=RelaxForm(_relax),
        samples=_samples,
    )
)
