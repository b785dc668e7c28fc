"""Gated activations: an activation of one tensor times another of the same shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from graphopt.dialect.onnx_nodes import OnnxValue, is_half, opmath_type, scalar, to_opmath
from graphopt.dialect.op import Autograd, DialectOp, OnnxForm, RelaxForm, Sample
from graphopt.dialect.operands import check_floating, draw, fake_like, opmath, reject
from graphopt.dialect.registry import register
from graphopt.dialect.relax_kernels import emit_elementwise


def _check_gated(op: str, gate: torch.Tensor, up: torch.Tensor) -> None:
    check_floating(op, gate=gate, up=up)
    if tuple(gate.shape) != tuple(up.shape):
        raise reject(op, f"gate has shape {tuple(gate.shape)}, up {tuple(up.shape)}")


# --- SwiGLU --------------------------------------------------------------------------------------


def _check_silu_mul(gate: torch.Tensor, up: torch.Tensor) -> None:
    _check_gated("silu_mul", gate, up)


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``gate * sigmoid(gate) * up``, elementwise: the product inside a SwiGLU block.

    Args:
        gate, up: of one shape and floating-point dtype; half precision is computed in float32.

    Returns:
        Shape and dtype of ``gate``.
    """
    wide = opmath(gate)
    return (wide * torch.sigmoid(wide) * opmath(up)).to(gate.dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    gate, up, *ctx.attributes = inputs
    ctx.save_for_backward(gate, up)


def _silu_mul_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    gate, up = ctx.saved_tensors
    g, wide = opmath(grad), opmath(gate)
    s = torch.sigmoid(wide)
    grad_gate = g * opmath(up) * s * (1 + wide * (1 - s))
    return grad_gate.to(gate.dtype), (g * wide * s).to(up.dtype)


def _silu_mul_onnx(gate: OnnxValue, up: OnnxValue) -> OnnxValue:
    from onnxscript import opset18 as op

    wide = to_opmath(gate)
    y = op.Mul(op.Mul(wide, op.Sigmoid(wide)), to_opmath(up))
    return op.CastLike(y, gate) if is_half(gate) else y


def _silu_mul_relax(bb: Any, gate: Any, up: Any) -> Any:
    from tvm import tirx

    from graphopt.codegen.relax.scalars import exp

    def silu_mul(dtype: str, g: Any, u: Any) -> Any:
        return g / (tirx.const(1.0, dtype) + exp(-g)) * u

    return emit_elementwise(bb, "silu_mul", silu_mul, gate, up)


def _pairs() -> dict[int, tuple[str | None, ...]]:
    return {0: ("batch", "seq", None), 1: ("batch", "seq", None)}


def _silu_mul_samples() -> Sequence[Sample]:
    return (
        Sample("rows", (draw(2, 3, 8), draw(2, 3, 8, seed=1)), _pairs()),
        Sample("vector", (draw(5), draw(5, seed=1))),
        Sample("scalar", (torch.tensor(0.75), torch.tensor(-2.0))),
        Sample("saturated", (torch.tensor([-80.0, -20.0, 0.0, 20.0, 80.0]), draw(5))),
        Sample("empty", (torch.zeros(0, 4), torch.zeros(0, 4)), differentiable=False),
    )


SILU_MUL = register(
    DialectOp(
        name="silu_mul",
        schema="(Tensor gate, Tensor up) -> Tensor",
        summary="silu(gate) * up, the product inside SwiGLU",
        source="Shazeer 2020 (arXiv 2002.05202) §2",
        check=_check_silu_mul,
        reference=silu_mul,
        fake=fake_like,
        autograd=Autograd(_setup, _silu_mul_backward),
        onnx=OnnxForm(_silu_mul_onnx),
        relax=RelaxForm(_silu_mul_relax),
        samples=_silu_mul_samples,
    )
)


# --- GEGLU ---------------------------------------------------------------------------------------

_TANH_CUBIC = 0.044715
_SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
_APPROXIMATIONS = ("none", "tanh")


def _check_gelu_mul(gate: torch.Tensor, up: torch.Tensor, approximate: str) -> None:
    _check_gated("gelu_mul", gate, up)
    if approximate not in _APPROXIMATIONS:
        raise reject("gelu_mul", f"approximate is {approximate!r}, known are 'none' and 'tanh'")


def gelu_mul(gate: torch.Tensor, up: torch.Tensor, approximate: str) -> torch.Tensor:
    """``gelu(gate) * up``, elementwise: the product inside a GEGLU block.

    Args:
        gate, up: of one shape and floating-point dtype; half precision is computed in float32.
        approximate: "none" for the error function, "tanh" for the approximation of Hendrycks and
            Gimpel 2016.

    Returns:
        Shape and dtype of ``gate``.
    """
    wide = opmath(gate)
    return (torch.nn.functional.gelu(wide, approximate=approximate) * opmath(up)).to(gate.dtype)


def _gelu_mul_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    gate, up = ctx.saved_tensors
    (approximate,) = ctx.attributes
    g, wide = opmath(grad), opmath(gate)
    grad_gate = torch.ops.aten.gelu_backward(g * opmath(up), wide, approximate=approximate)
    grad_up = g * torch.nn.functional.gelu(wide, approximate=approximate)
    return grad_gate.to(gate.dtype), grad_up.to(up.dtype), None


def _gelu_mul_onnx(gate: OnnxValue, up: OnnxValue, approximate: str) -> OnnxValue:
    from onnxscript import opset18 as op

    wide, dtype = to_opmath(gate), opmath_type(gate)
    if approximate == "tanh":
        cubic = op.Mul(scalar(_TANH_CUBIC, dtype), op.Mul(wide, op.Mul(wide, wide)))
        bent = op.Tanh(op.Mul(scalar(_SQRT_2_OVER_PI, dtype), op.Add(wide, cubic)))
    else:
        bent = op.Erf(op.Mul(wide, scalar(math.sqrt(0.5), dtype)))
    gelu = op.Mul(op.Mul(scalar(0.5, dtype), wide), op.Add(bent, scalar(1.0, dtype)))
    y = op.Mul(gelu, to_opmath(up))
    return op.CastLike(y, gate) if is_half(gate) else y


def _gelu_mul_relax(bb: Any, gate: Any, up: Any, approximate: str) -> Any:
    from tvm import te, tirx

    from graphopt.codegen.relax.scalars import erf

    def gelu_mul(dtype: str, g: Any, u: Any) -> Any:
        def const(value: float) -> Any:
            return tirx.const(value, dtype)

        if approximate == "tanh":
            bent = te.tanh(const(_SQRT_2_OVER_PI) * (g + const(_TANH_CUBIC) * g * g * g))
        else:
            bent = erf(g * const(math.sqrt(0.5)))
        return const(0.5) * g * (bent + const(1.0)) * u

    return emit_elementwise(bb, "gelu_mul", gelu_mul, gate, up)


def _gelu_mul_samples() -> Sequence[Sample]:
    return (
        Sample("exact", (draw(2, 3, 8), draw(2, 3, 8, seed=1), "none"), _pairs()),
        Sample("tanh", (draw(2, 3, 8), draw(2, 3, 8, seed=1), "tanh"), _pairs()),
        Sample("saturated", (torch.tensor([-30.0, -6.0, 0.0, 6.0, 30.0]), draw(5), "none")),
        Sample("scalar", (torch.tensor(0.75), torch.tensor(-2.0), "tanh")),
    )


GELU_MUL = register(
    DialectOp(
        name="gelu_mul",
        schema="(Tensor gate, Tensor up, str approximate) -> Tensor",
        summary="gelu(gate) * up, the product inside GEGLU",
        source="Shazeer 2020 (arXiv 2002.05202) §2; Hendrycks and Gimpel 2016 (arXiv 1606.08415)",
        check=_check_gelu_mul,
        reference=gelu_mul,
        fake=fake_like,
        autograd=Autograd(_setup, _gelu_mul_backward),
        # onnxruntime has no Erf in float64.
        onnx=OnnxForm(_gelu_mul_onnx, dtypes=(torch.float32, torch.float16)),
        relax=RelaxForm(_gelu_mul_relax),
        samples=_gelu_mul_samples,
    )
)
