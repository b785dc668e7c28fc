"""Transposed convolutions whose windows overlap, as convolutions.

With a stride of ``s`` an output at ``q s + r`` gathers the taps ``r, r + s, r + 2 s, ...`` of pixels
``q, q - 1, q - 2, ...``: outputs of one phase ``r`` are a convolution of the image, with a kernel an s-th as
long.  All phases together are one convolution with as many times the channels, whose results are then put
side by side.  (Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax.context import Context, Expr, shape_of
from graphopt.codegen.relax.packed import packed_conv2d


def phased_conv_transpose2d(
    context: Context,
    x: Expr,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    strides: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    shape: Sequence[Any],
) -> Expr:
    """A transposed convolution of one group, channels last.

    Args:
        x: ``[N, H, W, C]``, float32.
        weight: ``[C, O, KH, KW]``.
        bias: ``[O]`` or None.
        padding, output_padding: as torch has them, of height and width.
        shape: of the result, ``[N, OH, OW, O]``.
    """
    batch, height, width, _ = shape_of(x)
    outputs = weight.shape[1]
    (sh, sw), (top, left) = strides, padding
    reach = [-(-k // step) - 1 for k, step in zip(weight.shape[2:], strides, strict=True)]
    # Outputs that padding adds at the end lie beyond all windows.
    after = [r + bool(more) for r, more in zip(reach, output_padding, strict=True)]
    inner = [batch, height + after[0], width + after[1], sh * sw * outputs]
    phases = packed_conv2d(
        context,
        x,
        _by_phase(weight, strides),
        None if bias is None else bias.repeat(sh * sw),
        [1, 1],
        [*reach, *after],
        [1, 1],
        inner,
    )

    def define(data: te.Tensor) -> te.Tensor:
        def element(n: Any, y: Any, x: Any, c: Any) -> Any:
            y, x = y + top, x + left
            phase = tirx.floormod(y, sh) * sw + tirx.floormod(x, sw)
            return data(n, tirx.floordiv(y, sh), tirx.floordiv(x, sw), phase * outputs + c)

        return te.compute(list(shape), element, name="side_by_side")

    return context.kernel("side_by_side", [phases], define)


def _by_phase(weight: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """``[C, O, KH, KW]`` to ``[SH SW O, C, ⌈KH / SH⌉, ⌈KW / SW⌉]``, last tap first."""
    channels, outputs, *taps = weight.shape
    (sh, sw), (th, tw) = strides, (-(-k // step) for k, step in zip(taps, strides, strict=True))
    whole = torch.nn.functional.pad(weight.detach(), (0, tw * sw - taps[1], 0, th * sh - taps[0]))
    phases = whole.reshape(channels, outputs, th, sh, tw, sw).permute(3, 5, 1, 0, 2, 4)
    return phases.reshape(sh * sw * outputs, channels, th, tw).flip(2, 3)
