"""Convolutions and matrix products with an activation, a sum, a factor or a transposition fused in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op
from graphopt.frontends.onnx.converters.conv import convolve
from graphopt.frontends.onnx.converters.matmul import gemm


def activate(call: Call, x: torch.Tensor, name: str, parameters: Sequence[float]) -> torch.Tensor:
    """The activation that a fused node names, as onnxruntime's ``MlasActivation`` defines it.

    Raises:
        InputError: GO-3006, there is no such activation, or it needs other parameters.
    """
    needed = {"LeakyRelu": 1, "Clip": 2, "HardSigmoid": 2}.get(name, 0)
    if len(parameters) < needed:
        raise call.error(f"has the activation {name} with {len(parameters)} of {needed} parameters")
    match name:
        case "":
            return x
        case "Relu":
            return F.relu(x)
        case "Tanh":
            return torch.tanh(x)
        case "Sigmoid":
            return torch.sigmoid(x)
        case "LeakyRelu":
            return F.leaky_relu(x, parameters[0])
        case "Clip":
            return torch.clamp(x, parameters[0], parameters[1])
        case "HardSigmoid":
            return torch.clamp(x * parameters[0] + parameters[1], 0.0, 1.0)
        case "HardSwish":
            return F.hardswish(x)
        case _:
            raise call.error(f"has the activation {name!r}, which is not supported")


@contrib_op("FusedConv", ignores=("kernel_shape", "pads"))
def fused_conv(
    call: Call,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
) -> torch.Tensor:
    """``activation(conv(x) + added)``; x [N, C, *size], weight [M, C/group, *kernel]."""
    return _finished(call, convolve(call, x, weight, bias), added)


@contrib_op("NhwcConv", ignores=("kernel_shape", "pads"))
@contrib_op("NhwcFusedConv", ignores=("kernel_shape", "pads"))
def nhwc_conv(
    call: Call,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
) -> torch.Tensor:
    """As FusedConv, with x, ``added`` and the result in channels-last order [N, *size, C]."""
    return _finished(call, convolve(call, x.movedim(-1, 1), weight, bias).movedim(1, -1), added)


def _finished(call: Call, y: torch.Tensor, added: torch.Tensor | None) -> torch.Tensor:
    y = y if added is None else y + added
    return activate(call, y, call.str("activation", ""), call.floats("activation_params", []))


@contrib_op("FusedGemm", ignores=("activation_gamma",))
def fused_gemm(call: Call, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    given = [call.float(f"activation_{name}") for name in ("alpha", "beta")]
    name = call.str("activation", "")
    return activate(call, gemm(call, a, b, c), name, [p for p in given if p is not None])


@contrib_op("FusedMatMul")
@contrib_op("TransposeMatMul")
def fused_matmul(call: Call, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``alpha * A' @ B'``, each operand transposed as its flags say."""
    a = _transposed(a, call.flag("transA"), call.flag("transBatchA"))
    b = _transposed(b, call.flag("transB"), call.flag("transBatchB"))
    product = torch.matmul(a, b)
    alpha = call.float("alpha", 1.0)
    return product if alpha == 1.0 else product * alpha


def _transposed(x: torch.Tensor, last_two: bool, batch: bool) -> torch.Tensor:
    """``batch`` moves the first axis behind the other batch axes; then ``last_two`` swaps the last two.

    A vector is left alone.
    """
    if x.ndim < 2:
        return x
    if batch:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if last_two else x
