"""Layers of integer-only networks: products of bytes, summed in int32, and what brings those to 8 bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

MULTIPLIER_BITS = 31


class DyadicRequantize(nn.Module):
    """``clamp((z m + 2^(e-1)) >> e, low, high)`` for int32 sums ``z``, in int64: rounds halves up.

    Yao et al., "HAWQ-V3: Dyadic Neural Network Quantization", arXiv:2011.10680, 2020, with one rounding.
    """

    def __init__(
        self, factor: torch.Tensor, shape: Sequence[int], dtype: torch.dtype, low: int | None = None
    ):
        """
        Args:
            factor: of each channel, positive; ``m 2^-e`` is the nearest with 31 bits and one ``e`` for all.
            shape: that channels have in what is requantized, such as ``(-1, 1, 1)``.
            dtype: int8 or uint8.
            low: a lower bound above that of ``dtype``, as a ReLU gives.
        """
        super().__init__()
        shift = int(torch.floor(MULTIPLIER_BITS - 1 - torch.log2(factor.double().max())))
        multiplier = torch.round(factor.double() * 2.0**shift).to(torch.int64)
        self.multiplier = nn.Buffer(multiplier.reshape(shape))
        self.shift, self.rounding = shift, 1 << (shift - 1)
        self.dtype = dtype
        limits = torch.iinfo(dtype)
        self.low, self.high = limits.min if low is None else low, limits.max

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        scaled = (sums.to(torch.int64) * self.multiplier + self.rounding) >> self.shift
        return scaled.clamp(self.low, self.high).to(self.dtype)


class FloatRequantize(nn.Module):
    """``saturate(round(z factor) + zero)``, as QLinearConv does in ONNX, with a float32 factor a channel."""

    def __init__(self, factor: torch.Tensor, shape: Sequence[int], dtype: torch.dtype, zero: int):
        super().__init__()
        self.factor = nn.Buffer(factor.float().reshape(shape))
        self.zero, self.dtype = zero, dtype

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        limits = torch.iinfo(self.dtype)
        rounded = torch.round(sums.to(torch.float32) * self.factor) + float(self.zero)
        return rounded.clamp(limits.min, limits.max).to(self.dtype)


class IntegerLinear(nn.Module):
    """``(x - zero) @ weight.T + bias`` in int32, for x of 8 bits."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, zero: int) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)
        self.bias = None if bias is None else nn.Buffer(bias)
        self.zero = zero

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.int32)
        centred = wide - self.zero if self.zero else wide
        return F.linear(centred, self.weight.to(torch.int32), self.bias)


class IntegerConv2d(nn.Module):
    """A convolution of ``x - zero`` in int32, for x of 8 bits; the border is zero, which is x = zero."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        zero: int,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)
        self.bias = None if bias is None else nn.Buffer(bias)
        self.zero = zero
        self.window = (list(stride), list(padding), list(dilation), groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.to(torch.int32)
        centred = wide - self.zero if self.zero else wide
        return F.conv2d(centred, self.weight.to(torch.int32), self.bias, *self.window)
