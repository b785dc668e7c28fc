"""Products with weights of 2, 4 or 8 bits, quantised in blocks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.contrib.domain import contrib_op


def unpack_bits(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """uint8 [..., n] -> uint8 [..., n * 8 / bits]: the lowest bits of each byte come first."""
    if bits == 8:
        return packed
    mask = 2**bits - 1
    parts = [(packed >> shift) & mask for shift in range(0, 8, bits)]
    return torch.stack(parts, dim=-1).flatten(-2)


@contrib_op("MatMulNBits", ignores=("accuracy_level",))
def matmul_nbits(
    call: Call,
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    zero_points: torch.Tensor | None = None,
    group_index: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """x [..., K] times the transposed weight [N, K], ``(quantised - zero) * scale`` in blocks along K.

    packed uint8 [N, blocks, block_size * bits / 8]; scales [N, blocks] (or flat); zero points packed alike,
    uint8 [N, ceil(blocks * bits / 8)], or numbers of x's type, [N, blocks]; default the middle, 2^(bits - 1).
    The weight is dequantised exactly: ``accuracy_level``, which allows kernels to round x, is not followed.
    """
    bits, block = call.int("bits", 4), call.int("block_size")
    rows, columns = call.int("N"), call.int("K")
    if bits not in (2, 4, 8):
        raise call.error(f"has weights of {bits} bits; 2, 4 and 8 are supported")
    if group_index is not None:
        raise call.error("has a group index, which is deprecated and not supported")
    if call.int("weight_prepacked", 0):
        raise call.error("has weights in the order of one GPU's kernel, which is not supported")
    blocks = -(-columns // block)
    weight = unpack_bits(packed.reshape(rows, blocks, -1), bits)
    zero = _zero_points(zero_points, rows, blocks, bits)
    # Both are below 256, so that the difference is exact in every float type.
    centred = weight.to(scales.dtype) - zero
    dequantized = centred * scales.reshape(rows, blocks, 1)
    dequantized = dequantized.reshape(rows, blocks * block)[:, :columns]
    return F.linear(x, dequantized.to(x.dtype), bias)


def _zero_points(zero_points: torch.Tensor | None, rows: int, blocks: int, bits: int) -> Any:
    """One number a block, to subtract from [N, blocks, block_size]."""
    if zero_points is None:
        return 2 ** (bits - 1)
    if zero_points.dtype.is_floating_point:
        return zero_points.reshape(rows, blocks, 1)
    unpacked = unpack_bits(zero_points.reshape(rows, -1), bits)[:, :blocks]
    return unpacked.unsqueeze(-1).to(torch.int32)
