"""Activations with parameters that ATen fixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphopt.dialect.onnx_nodes import OnnxValue, is_half, opmath_type, scalar, to_opmath
from graphopt.dialect.op import Autograd, DialectOp, OnnxForm, RelaxForm, Sample
from graphopt.dialect.operands import check_floating, draw, fake_like, opmath, reject
from graphopt.dialect.registry import register
from graphopt.dialect.relax_kernels import emit_elementwise

# --- hard swish ----------------------------------------------------------------------------------


def _check_hard_swish(x: torch.Tensor, offset: float, threshold: float, scale: float) -> None:
    check_floating("hard_swish", x=x)
    if threshold < 0:
        raise reject("hard_swish", f"threshold is {threshold}, the clip range [0, threshold] is empty")
    if scale == 0:
        raise reject("hard_swish", "scale is 0")


def hard_swish(x: torch.Tensor, offset: float, threshold: float, scale: float) -> torch.Tensor:
    """``x * clip(x + offset, 0, threshold) / scale``, elementwise.

    Args:
        x: any shape, floating point; half precision is computed in float32.
        offset, threshold, scale: 3, 6, 6 give ``aten.hardswish``.

    Returns:
        Shape and dtype of ``x``.
    """
    wide = opmath(x)
    return (wide * (wide + offset).clamp(0.0, threshold) / scale).to(x.dtype)


def _hard_swish_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, ctx.offset, ctx.threshold, ctx.scale = inputs
    ctx.save_for_backward(x)


def _hard_swish_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    wide = opmath(x)
    shifted = wide + ctx.offset
    inside = (shifted >= 0) & (shifted <= ctx.threshold)
    slope = shifted.clamp(0.0, ctx.threshold) + wide * inside
    return (opmath(grad) * slope / ctx.scale).to(x.dtype), None, None, None


def _hard_swish_onnx(x: OnnxValue, offset: float, threshold: float, scale: float) -> OnnxValue:
    import onnx_ir
    from onnxscript import opset18 as op

    # ONNX fixes the parameters; onnxruntime expands to HardSigmoid, which it has in float32 only.
    if (offset, threshold, scale) == (3.0, 6.0, 6.0) and x.dtype == onnx_ir.DataType.FLOAT:
        return op.HardSwish(x)
    wide, dtype = to_opmath(x), opmath_type(x)
    gate = op.Clip(op.Add(wide, scalar(offset, dtype)), scalar(0.0, dtype), scalar(threshold, dtype))
    y = op.Div(op.Mul(wide, gate), scalar(scale, dtype))
    return op.CastLike(y, x) if is_half(x) else y


def _hard_swish_relax(bb: Any, x: Any, offset: float, threshold: float, scale: float) -> Any:
    from tvm import tirx

    def hard_swish(dtype: str, v: Any) -> Any:
        zero, top = tirx.const(0.0, dtype), tirx.const(threshold, dtype)
        gate = tirx.min(tirx.max(v + tirx.const(offset, dtype), zero), top)
        return v * gate / tirx.const(scale, dtype)

    return emit_elementwise(bb, "hard_swish", hard_swish, x)


def _hard_swish_samples() -> Sequence[Sample]:
    return (
        Sample("paddle", (draw(2, 3, 4, 5, scale=3.0), 3.0, 6.0, 6.0), {0: ("batch", None, "h", "w")}),
        Sample("other_parameters", (draw(2, 7, scale=2.0), 1.5, 2.5, 4.0), {0: ("batch", None)}),
        Sample("negative_scale", (draw(9), 0.5, 1.0, -2.0)),
        Sample("kinks", (torch.tensor([-3.0, 3.0, 0.0, -4.0, 4.0]), 3.0, 6.0, 6.0), differentiable=False),
        Sample("scalar", (torch.tensor(0.75), 3.0, 6.0, 6.0)),
        Sample("empty", (torch.zeros(0, 4), 3.0, 6.0, 6.0), differentiable=False),
    )


HARD_SWISH = register(
    DialectOp(
        name="hard_swish",
        schema="(Tensor x, float offset, float threshold, float scale) -> Tensor",
        summary="x * clip(x + offset, 0, threshold) / scale",
        source="Howard et al. 2019 (arXiv 1905.02244) §5.2; parameters as Paddle's hard_swish has them",
        check=_check_hard_swish,
        reference=hard_swish,
        fake=fake_like,
        autograd=Autograd(_hard_swish_setup, _hard_swish_backward),
        onnx=OnnxForm(_hard_swish_onnx),
        relax=RelaxForm(_hard_swish_relax),
        samples=_hard_swish_samples,
    )
)


# --- hard sigmoid --------------------------------------------------------------------------------


def _check_hard_sigmoid(x: torch.Tensor, alpha: float, beta: float) -> None:
    check_floating("hard_sigmoid", x=x)


def hard_sigmoid(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """``clip(alpha * x + beta, 0, 1)``, elementwise.

    Args:
        x: any shape, floating point; half precision is computed in float32.
        alpha, beta: 1/6 and 0.5 give ``aten.hardsigmoid``; ONNX's default alpha is 0.2.

    Returns:
        Shape and dtype of ``x``.
    """
    return (opmath(x) * alpha + beta).clamp(0.0, 1.0).to(x.dtype)


def _hard_sigmoid_setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, ctx.alpha, ctx.beta = inputs
    ctx.save_for_backward(x)


def _hard_sigmoid_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    line = opmath(x) * ctx.alpha + ctx.beta
    return grad * ctx.alpha * ((line >= 0) & (line <= 1)), None, None


def _hard_sigmoid_onnx(x: OnnxValue, alpha: float, beta: float) -> OnnxValue:
    import onnx_ir
    from onnxscript import opset18 as op

    # onnxruntime implements HardSigmoid in float32 only.
    if x.dtype == onnx_ir.DataType.FLOAT:
        return op.HardSigmoid(x, alpha=alpha, beta=beta)
    wide, dtype = to_opmath(x), opmath_type(x)
    line = op.Add(op.Mul(wide, scalar(alpha, dtype)), scalar(beta, dtype))
    return op.CastLike(op.Clip(line, scalar(0.0, dtype), scalar(1.0, dtype)), x)


def _hard_sigmoid_relax(bb: Any, x: Any, alpha: float, beta: float) -> Any:
    from tvm import tirx

    def hard_sigmoid(dtype: str, v: Any) -> Any:
        line = v * tirx.const(alpha, dtype) + tirx.const(beta, dtype)
        return tirx.min(tirx.max(line, tirx.const(0.0, dtype)), tirx.const(1.0, dtype))

    return emit_elementwise(bb, "hard_sigmoid", hard_sigmoid, x)


def _hard_sigmoid_samples() -> Sequence[Sample]:
    return (
        Sample("onnx_default", (draw(2, 3, 4, 5, scale=3.0), 0.2, 0.5), {0: ("batch", None, "h", "w")}),
        Sample("paddle", (draw(2, 7, scale=3.0), 0.1666667, 0.5), {0: ("batch", None)}),
        Sample("falling", (draw(9, scale=2.0), -0.4, 0.3)),
        Sample("flat", (draw(6), 0.0, 0.25)),
        Sample("kinks", (torch.tensor([-2.5, 2.5, 0.0, -9.0, 9.0]), 0.2, 0.5), differentiable=False),
        Sample("scalar", (torch.tensor(0.75), 0.2, 0.5)),
    )


HARD_SIGMOID = register(
    DialectOp(
        name="hard_sigmoid",
        schema="(Tensor x, float alpha, float beta) -> Tensor",
        summary="clip(alpha * x + beta, 0, 1)",
        source="ONNX HardSigmoid-6",
        check=_check_hard_sigmoid,
        reference=hard_sigmoid,
        fake=fake_like,
        autograd=Autograd(_hard_sigmoid_setup, _hard_sigmoid_backward),
        onnx=OnnxForm(_hard_sigmoid_onnx),
        relax=RelaxForm(_hard_sigmoid_relax),
        samples=_hard_sigmoid_samples,
    )
)
