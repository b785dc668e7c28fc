"""Fourier transforms and mel filters.

Complex numbers are pairs in the last axis.  Transforms run in float64: their sums cancel, and ONNX's
reference has full precision where float32 leaves noise of the size of the largest entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.dtypes import torch_dtype
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue

_FRAMES = 4
"""Frames of an example signal beyond the first, where its length is dynamic."""


@op("DFT", since=17, kinds={1: HOST})
def dft_axis_attribute(call: Call, x: torch.Tensor, length: HostValue | None = None) -> torch.Tensor:
    return _dft(call, x, length, call.int("axis", 1))


@op("DFT", since=20, kinds={1: HOST, 2: HOST})
def dft(
    call: Call, x: torch.Tensor, length: HostValue | None = None, axis: HostValue | None = None
) -> torch.Tensor:
    return _dft(call, x, length, -2 if axis is None else axis.number())


def _dft(call: Call, x: torch.Tensor, length: HostValue | None, axis: int) -> torch.Tensor:
    """X [..., 1] (real) or [..., 2] (complex), transformed along ``axis``; the result is [..., 2].

    One-sided and inverse together take the first half of a spectrum back to a real signal, [..., 1].
    """
    axis = axis % x.ndim
    if axis == x.ndim - 1:
        raise call.error("transforms the axis of real and imaginary parts")
    inverse, onesided = call.flag("inverse"), call.flag("onesided")
    size: Any = x.shape[axis]
    if length is not None:
        size = length.number()
    elif inverse and onesided:
        size = 2 * (size - 1)
    signal = _complex(x)
    if inverse and onesided:
        return torch.fft.irfft(signal, size, dim=axis).unsqueeze(-1).to(x.dtype)
    if inverse:
        spectrum = torch.fft.ifft(signal, size, dim=axis)
    elif onesided and not signal.is_complex():
        spectrum = torch.fft.rfft(signal, size, dim=axis)
    else:
        spectrum = torch.fft.fft(signal, size, dim=axis)
        spectrum = spectrum.narrow(axis, 0, size // 2 + 1) if onesided else spectrum
    return _pairs(spectrum, x.dtype)


def _complex(x: torch.Tensor) -> torch.Tensor:
    wide = x.double()
    return wide.squeeze(-1) if x.shape[-1] == 1 else torch.complex(wide[..., 0], wide[..., 1])


def _pairs(spectrum: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.view_as_real(spectrum).to(dtype)


@op("STFT", since=17, kinds={1: HOST, 3: HOST})
def short_time_dft(
    call: Call,
    signal: torch.Tensor,
    step: HostValue,
    window: torch.Tensor | None = None,
    frame_length: HostValue | None = None,
) -> torch.Tensor:
    """Signal [B, L, 1 or 2], window [frame] -> [B, frames, bins, 2]; bins are halved when one-sided."""
    if frame_length is not None:
        length: Any = frame_length.number()
    else:
        length = signal.shape[1] if window is None else window.shape[0]
    onesided = call.flag("onesided", True)
    values = _complex(signal)
    if onesided and values.is_complex():
        raise call.error("takes one side of the spectrum of a complex signal")
    reach, hop = length if window is None else window.shape[0], step.number()
    if signal.shape[1] < reach:
        raise call.size_error(f"cuts frames of {reach}", signal.shape[1], reach + _FRAMES * hop)
    frames = values.unfold(1, reach, hop)
    if window is not None:
        frames = frames * window.double()
    transform = torch.fft.rfft if onesided else torch.fft.fft
    return _pairs(transform(frames, length, dim=-1), signal.dtype)


@op("MelWeightMatrix", since=17, default=HOST)
def mel_weight_matrix(
    call: Call,
    bins: HostValue,
    dft_length: HostValue,
    sample_rate: HostValue,
    lower_hertz: HostValue,
    upper_hertz: HostValue,
) -> torch.Tensor:
    """[dft_length // 2 + 1, bins]: triangles between frequencies that are evenly spaced in mel.

    The standard rounds the corners down to whole bins of the spectrum.
    """
    count, length, rate = bins.number(), dft_length.number(), sample_rate.number()
    low, high = (2595 * np.log1p(f.number() / 700) / np.log(10) for f in (lower_hertz, upper_hertz))
    mels = low + np.arange(count + 2) * (high - low) / (count + 2)
    hertz = 700 * np.expm1(mels / 2595 * np.log(10))
    corners = (((length + 1) * hertz) // rate).astype(int)
    matrix = np.zeros((length // 2 + 1, count), dtype=np.float32)
    for i, (left, centre, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        if left == centre:
            matrix[centre, i] = 1
        for j in range(left, centre + 1 if left < centre else left):
            matrix[j, i] = (j - left) / (centre - left)
        for j in range(centre, right):
            matrix[j, i] = (right - j) / (right - centre)
    dtype = torch_dtype(call.int("output_datatype", 1), f"attribute 'output_datatype' of {call.name!r}")
    return call.array(matrix).to(dtype)
