"""Normalisation over channels of which some were cut away or padded with zeros.

Removing channels that are exactly zero changes neither the sum nor the sum of squares of a row, only
the number that the mean divides by.  These ops therefore take that number, ``count``, as an
attribute: with the original width they give, on the channels kept, the result of the original norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphopt.dialect.onnx_nodes import OnnxValue, integers, is_half, opmath_type, scalar, to_opmath
from graphopt.dialect.op import Autograd, DialectOp, OnnxForm, RelaxForm, Sample
from graphopt.dialect.operands import check_floating, draw, fake_like, opmath, reject
from graphopt.dialect.registry import register
from graphopt.dialect.relax_kernels import opmath_dtype


def _check_norm(op: str, x: torch.Tensor, eps: float, count: int, **affine: torch.Tensor | None) -> None:
    check_floating(op, x=x, **affine)
    if x.dim() < 1:
        raise reject(op, "x has no dimension to normalise over")
    for name, vector in affine.items():
        if vector is not None and (vector.dim() != 1 or vector.shape[0] != x.shape[-1]):
            raise reject(
                op, f"{name} has shape {tuple(vector.shape)}, the last dimension of x is {x.shape[-1]}"
            )
    if count < 1:
        raise reject(op, f"count is {count}, it must be at least 1")
    if eps < 0:
        raise reject(op, f"eps is {eps}, it must not be negative")


# --- RMSNorm -------------------------------------------------------------------------------------


def _check_rms(x: torch.Tensor, weight: torch.Tensor | None, eps: float, count: int) -> None:
    _check_norm("rms_norm_counted", x, eps, count, weight=weight)


def rms_norm_counted(x: torch.Tensor, weight: torch.Tensor | None, eps: float, count: int) -> torch.Tensor:
    """``x / sqrt(sum(x**2) / count + eps) * weight`` over the last dimension.

    Args:
        x: ``[..., K]``, floating point; half precision is computed in float32.
        weight: ``[K]`` in the dtype of ``x``, or None.
        eps: added to the mean square.
        count: what the sum of squares is divided by, the width before channels were removed.

    Returns:
        ``[..., K]`` in the dtype of ``x``.
    """
    wide = opmath(x)
    y = wide * torch.rsqrt((wide * wide).sum(-1, keepdim=True) / count + eps)
    return (y if weight is None else y * opmath(weight)).to(x.dtype)


def _rms_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, weight, ctx.eps, ctx.count = inputs
    ctx.save_for_backward(x, weight)


def _rms_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    wide, g = opmath(x), opmath(grad)
    r = torch.rsqrt((wide * wide).sum(-1, keepdim=True) / ctx.count + ctx.eps)
    normed = wide * r
    into = g if weight is None else g * opmath(weight)
    grad_x = r * (into - normed * (into * normed).sum(-1, keepdim=True) / ctx.count)
    return grad_x.to(x.dtype), _grad_weight(g, normed, weight), None, None


def _grad_weight(grad: torch.Tensor, normed: torch.Tensor, weight: torch.Tensor | None) -> Any:
    if weight is None:
        return None
    return (grad * normed).reshape(-1, normed.shape[-1]).sum(0).to(weight.dtype)


def _rms_onnx(x: OnnxValue, weight: OnnxValue, eps: float, count: int) -> OnnxValue:
    from onnxscript import opset18 as op

    wide, dtype = to_opmath(x), opmath_type(x)
    squares = op.ReduceSumSquare(wide, integers(-1), keepdims=1)
    mean = op.Div(squares, scalar(count, dtype))
    y = op.Div(wide, op.Sqrt(op.Add(mean, scalar(eps, dtype))))
    if weight is not None:
        y = op.Mul(y, to_opmath(weight))
    return op.CastLike(y, x) if is_half(x) else y


def _rms_relax(bb: Any, x: Any, weight: Any, eps: float, count: int) -> Any:
    from tvm import te, tirx

    def compute(x: Any, *affine: Any) -> Any:
        dtype = opmath_dtype(str(x.dtype))
        k = te.reduce_axis((0, x.shape[-1]), "k")
        squares = te.compute(
            x.shape[:-1],
            lambda *i: te.sum(x(*i, k).astype(dtype) * x(*i, k).astype(dtype), axis=k),
            name="sum_of_squares",
        )

        def normalise(*i: Any) -> Any:
            mean = squares(*i[:-1]) / tirx.const(count, dtype)
            y = x(*i).astype(dtype) / te.sqrt(mean + tirx.const(eps, dtype))
            for weight in affine:
                y = y * weight(i[-1]).astype(dtype)
            return y.astype(x.dtype)

        return te.compute(x.shape, normalise, name="rms_norm")

    operands = [x] if weight is None else [x, weight]
    return bb.emit_te(compute, *operands, primfunc_name_hint="rms_norm_counted")


def _rms_samples() -> Sequence[Sample]:
    rows = {0: ("batch", "seq", None)}
    return (
        Sample("pruned", (draw(2, 5, 12), draw(12, seed=1), 1e-6, 16), rows),
        Sample("padded", (draw(2, 3, 16) * (torch.arange(16) < 11), draw(16, seed=1), 1e-5, 11), rows),
        Sample("no_weight", (draw(2, 4, 8), None, 1e-6, 8), rows),
        Sample("vector", (draw(7), draw(7, seed=1), 1e-5, 9)),
        Sample("one_channel", (draw(3, 1), draw(1, seed=1), 1e-6, 4)),
        Sample("large_eps", (draw(4, 6, scale=1e-3), draw(6, seed=1), 0.5, 12)),
        Sample("zero_rows", (torch.zeros(2, 6), draw(6, seed=1), 1e-6, 8)),
        Sample("image", (draw(2, 3, 4, 10), draw(10, seed=1), 1e-6, 12)),
    )


RMS_NORM_COUNTED = register(
    DialectOp(
        name="rms_norm_counted",
        schema="(Tensor x, Tensor? weight, float eps, int count) -> Tensor",
        summary="RMSNorm whose mean divides by an explicit count",
        source="Zhang and Sennrich 2019 (arXiv 1910.07467), the mean taken over `count` channels",
        check=_check_rms,
        reference=rms_norm_counted,
        fake=fake_like,
        autograd=Autograd(_rms_setup, _rms_backward),
        onnx=OnnxForm(_rms_onnx),
        relax=RelaxForm(_rms_relax),
        samples=_rms_samples,
    )
)


# --- LayerNorm -----------------------------------------------------------------------------------


def _check_layer(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, count: int
) -> None:
    _check_norm("layer_norm_counted", x, eps, count, weight=weight, bias=bias)


def _standardise(wide: torch.Tensor, eps: float, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The standardised row and the reciprocal of its standard deviation."""
    mean = wide.sum(-1, keepdim=True) / count
    centred = wide - mean
    # Each of the count - K channels that are gone was zero, at distance `mean` from the mean.
    missing = (count - wide.shape[-1]) * mean * mean
    variance = ((centred * centred).sum(-1, keepdim=True) + missing) / count
    r = torch.rsqrt(variance + eps)
    return centred * r, r


def layer_norm_counted(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, count: int
) -> torch.Tensor:
    """LayerNorm over the last dimension as if ``x`` had ``count`` channels, the missing ones zero.

    With ``mean = sum(x) / count`` and ``var = (sum((x - mean)**2) + (count - K) * mean**2) / count``
    the result is ``(x - mean) / sqrt(var + eps) * weight + bias``.  For ``count < K`` the same formula
    leaves out ``K - count`` channels that are zero padding.

    Args:
        x: ``[..., K]``, floating point; half precision is computed in float32.
        weight: ``[K]`` in the dtype of ``x``, or None.
        bias: ``[K]`` in the dtype of ``x``, or None.
        eps: added to the variance.
        count: number of channels that mean and variance are over.

    Returns:
        ``[..., K]`` in the dtype of ``x``.
    """
    y, _ = _standardise(opmath(x), eps, count)
    if weight is not None:
        y = y * opmath(weight)
    if bias is not None:
        y = y + opmath(bias)
    return y.to(x.dtype)


def _layer_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, weight, bias, ctx.eps, ctx.count = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _layer_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    g = opmath(grad)
    normed, r = _standardise(opmath(x), ctx.eps, ctx.count)
    into = g if weight is None else g * opmath(weight)
    mean_into = into.sum(-1, keepdim=True) / ctx.count
    mean_projection = (into * normed).sum(-1, keepdim=True) / ctx.count
    grad_x = (r * (into - mean_into - normed * mean_projection)).to(x.dtype)
    grad_bias = None if ctx.bias_dtype is None else g.reshape(-1, g.shape[-1]).sum(0).to(ctx.bias_dtype)
    return grad_x, _grad_weight(g, normed, weight), grad_bias, None, None


def _layer_onnx(x: OnnxValue, weight: OnnxValue, bias: OnnxValue, eps: float, count: int) -> OnnxValue:
    from onnxscript import opset18 as op

    wide, dtype = to_opmath(x), opmath_type(x)
    total = scalar(count, dtype)
    mean = op.Div(op.ReduceSum(wide, integers(-1), keepdims=1), total)
    centred = op.Sub(wide, mean)
    # (sum((x - mean)**2) + (count - K) * mean**2) / count, in this order to avoid cancellation.
    missing = op.Mul(scalar(count - int(x.shape[-1]), dtype), op.Mul(mean, mean))
    squares = op.Add(op.ReduceSumSquare(centred, integers(-1), keepdims=1), missing)
    y = op.Div(centred, op.Sqrt(op.Add(op.Div(squares, total), scalar(eps, dtype))))
    if weight is not None:
        y = op.Mul(y, to_opmath(weight))
    if bias is not None:
        y = op.Add(y, to_opmath(bias))
    return op.CastLike(y, x) if is_half(x) else y


def _layer_relax(bb: Any, x: Any, weight: Any, bias: Any, eps: float, count: int) -> Any:
    from tvm import te, tirx

    def compute(x: Any, *affine: Any) -> Any:
        dtype = opmath_dtype(str(x.dtype))
        vectors = iter(affine)
        scale = next(vectors) if weight is not None else None
        shift = next(vectors) if bias is not None else None
        k = te.reduce_axis((0, x.shape[-1]), "k")
        mean = te.compute(
            x.shape[:-1],
            lambda *i: te.sum(x(*i, k).astype(dtype) / tirx.const(count, dtype), axis=k),
            name="mean",
        )
        kk = te.reduce_axis((0, x.shape[-1]), "kk")

        def centred(*i: Any) -> Any:
            return x(*i).astype(dtype) - mean(*i[:-1])

        squares = te.compute(
            x.shape[:-1], lambda *i: te.sum(centred(*i, kk) * centred(*i, kk), axis=kk), name="squares"
        )

        def normalise(*i: Any) -> Any:
            m = mean(*i[:-1])
            missing = (tirx.const(count, "int64") - x.shape[-1]).astype(dtype) * m * m
            variance = (squares(*i[:-1]) + missing) / tirx.const(count, dtype)
            y = centred(*i) / te.sqrt(variance + tirx.const(eps, dtype))
            if scale is not None:
                y = y * scale(i[-1]).astype(dtype)
            if shift is not None:
                y = y + shift(i[-1]).astype(dtype)
            return y.astype(x.dtype)

        return te.compute(x.shape, normalise, name="layer_norm")

    operands = [v for v in (x, weight, bias) if v is not None]
    return bb.emit_te(compute, *operands, primfunc_name_hint="layer_norm_counted")


def _layer_samples() -> Sequence[Sample]:
    rows = {0: ("batch", "seq", None)}
    weight, bias = draw(12, seed=1), draw(12, seed=2)
    padded = draw(2, 3, 16) * (torch.arange(16) < 11)
    return (
        Sample("pruned", (draw(2, 5, 12), weight, bias, 1e-6, 16), rows),
        Sample("padded", (padded, draw(16, seed=1), None, 1e-5, 11), rows),
        Sample("no_affine", (draw(2, 4, 8), None, None, 1e-6, 10), rows),
        Sample("bias_only", (draw(3, 12), None, bias, 1e-5, 12)),
        Sample("vector", (draw(7), draw(7, seed=1), draw(7, seed=2), 1e-5, 9)),
        Sample("one_channel", (draw(3, 1), draw(1, seed=1), None, 1e-6, 4)),
        Sample("far_from_zero", (draw(4, 12) + 3.0, weight, bias, 1e-5, 13)),
        Sample("zero_rows", (torch.zeros(2, 12), weight, bias, 1e-6, 16)),
    )


LAYER_NORM_COUNTED = register(
    DialectOp(
        name="layer_norm_counted",
        schema="(Tensor x, Tensor? weight, Tensor? bias, float eps, int count) -> Tensor",
        summary="LayerNorm whose mean and variance are over an explicit count",
        source="Ba et al. 2016 (arXiv 1607.06450), the statistics taken over `count` channels",
        check=_check_layer,
        reference=layer_norm_counted,
        fake=fake_like,
        autograd=Autograd(_layer_setup, _layer_backward),
        onnx=OnnxForm(_layer_onnx),
        relax=RelaxForm(_layer_relax),
        samples=_layer_samples,
    )
)
