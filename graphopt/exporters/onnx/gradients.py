"""Derivatives of pooling and convolution, which core ATen has operators for, in ONNX; sizes must be fixed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graphopt.errors import InputError
from graphopt.exporters.onnx.nodes import OnnxValue, expanded, ints, operators


def avg_pool2d_backward(
    grad: OnnxValue,
    x: OnnxValue,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> OnnxValue:
    """grad [..., h, w] of the means, x [..., H, W]: each window's derivative over its elements."""
    kernel, pads = expanded(kernel_size, 2), expanded(padding, 2)
    strides = expanded(stride, 2) if len(stride) else kernel
    outputs, inputs = _sizes(grad, 2), _sizes(x, 2)
    windows = []
    for axis in range(2):
        matrix = np.zeros((outputs[axis], inputs[axis]))
        for o in range(outputs[axis]):
            start = o * strides[axis] - pads[axis]
            end = min(start + kernel[axis], inputs[axis] + pads[axis])
            inside = range(max(start, 0), min(end, inputs[axis]))
            counted = end - start if count_include_pad else len(inside)
            matrix[o, inside] = 1.0 if divisor_override else 1.0 / counted
        windows.append(matrix)
    return _spread(grad, windows[0] / (divisor_override or 1), windows[1])


def adaptive_avg_pool2d_backward(grad: OnnxValue, x: OnnxValue) -> OnnxValue:
    """grad [..., h, w] of the means, x [..., H, W]."""
    windows = []
    for out, size in zip(_sizes(grad, 2), _sizes(x, 2), strict=True):
        matrix = np.zeros((out, size))
        for o in range(out):
            inside = slice(o * size // out, -(-(o + 1) * size // out))
            matrix[o, inside] = 1.0 / (inside.stop - inside.start)
        windows.append(matrix)
    return _spread(grad, *windows)


def _spread(grad: OnnxValue, rows: np.ndarray, columns: np.ndarray) -> OnnxValue:
    """``rows.T @ grad @ columns``."""
    op = operators(18)
    dtype = grad.dtype.numpy()
    left, right = (op.Constant(value=ir.tensor(m.astype(dtype))) for m in (rows.T.copy(), columns))
    return op.MatMul(op.MatMul(left, grad), right)


def convolution_backward(
    grad: OnnxValue,
    x: OnnxValue,
    weight: OnnxValue,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[OnnxValue, OnnxValue, OnnxValue]:
    """grad [N, M, *out], x [N, C, *size], weight [M, C / groups, *kernel]; what the mask leaves out is None.

    The weight's derivative is a convolution of x with grad in which batch and channels change places,
    and stride and dilation too.
    """
    op = operators(18)
    rank = len(weight.shape) - 2
    if transposed or groups != 1:
        raise InputError(
            "the derivative of a transposed or grouped convolution has no ONNX form", code="GO-3006"
        )
    strides, pads, dilations = (expanded(v, rank) for v in (stride, padding, dilation))
    before, after, kernel = (_sizes(v, rank) for v in (x, grad, weight))
    of_x = of_weight = of_bias = None
    if output_mask[0]:
        # What the strides did not reach at the end has no derivative.
        rest = [
            n + 2 * p - d * (k - 1) - 1 - s * (m - 1)
            for n, m, k, s, p, d in zip(before, after, kernel, strides, pads, dilations, strict=True)
        ]
        of_x = op.ConvTranspose(
            grad, weight, strides=strides, pads=[*pads, *pads], dilations=dilations, output_padding=rest
        )
    if output_mask[1]:
        order = [1, 0, *range(2, rank + 2)]
        turned = op.Conv(
            op.Transpose(x, perm=order),
            op.Transpose(grad, perm=order),
            strides=dilations,
            pads=[*pads, *pads],
            dilations=strides,
        )
        whole = op.Slice(turned, ints(*[0] * rank), ints(*kernel), ints(*range(2, rank + 2)))
        of_weight = op.Transpose(whole, perm=order)
    if output_mask[2]:
        of_bias = op.ReduceSum(grad, ints(0, *range(2, rank + 2)), keepdims=0)
    return of_x, of_weight, of_bias


def _sizes(x: OnnxValue, rank: int) -> list[int]:
    """The spatial sizes, which must be known."""
    sizes = list(x.shape)[-rank:]
    if not all(isinstance(size, int) for size in sizes):
        raise InputError("a derivative with symbolic sizes has no ONNX form", code="GO-3006")
    return sizes
