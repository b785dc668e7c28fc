"""Products of narrow numbers with weights that are packed at compile time: int8, bfloat16, float16.

Weights of a product ``[K, N]`` become panels ``[N / columns, K / group, columns, group]``: a vector of
them is what one instruction (:mod:`graphopt.codegen.schedules.cpu.dots`) takes.  The left operand is
brought to the type that the instruction multiplies, and to whole groups, by a stage of its own where it
is not so already.

Zero points need no subtraction inside: ``sum (x - z) w = sum x w - z sum w``, whose second term is known
here.  Instructions whose left operand has no sign take int8 as ``x + 128``, which is a zero point too.  All
of it is exact modulo 2^32, as int32 sums are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tvm import te, tirx

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import OUT_ELEMENTWISE_FUSIBLE, Context, Expr, shape_of
from graphopt.codegen.relax.packed import finished, whole_tiles
from graphopt.codegen.schedules.cpu.dots import DotProduct
from graphopt.codegen.schedules.cpu.packed import PADDED
from graphopt.codegen.schedules.cpu.tiling import PackedTile

_SIGN = 0x80


@dataclass(frozen=True)
class Factor:
    """How the left operand is multiplied.

    Attributes:
        dot: the instruction.
        read: an element as the instruction takes it.
        border: what stands for zero in that form.
        direct: whether elements are in that form already.
        zero: what has to be taken off each element afterwards.
    """

    dot: DotProduct
    read: Callable[[Any], Any]
    border: int = 0
    direct: bool = False
    zero: int = 0


def integer_factor(dot: DotProduct, dtype: str, zero: int) -> Factor:
    """The factor ``x - zero`` for elements ``x`` of ``dtype``, int8 or uint8."""
    if dot.left == "int16":

        def centred(x: Any) -> Any:
            wide = s.cast(x, "int16")
            return wide - s.constant(zero, "int16") if zero else wide

        return Factor(dot, centred)
    if dtype == dot.left:
        return Factor(dot, lambda x: x, zero, True, zero)
    moved = zero + _SIGN if dot.left == "uint8" else zero - _SIGN

    def other_sign(x: Any) -> Any:
        flipped = tirx.bitwise_xor(s.cast(x, "uint8"), s.constant(_SIGN, "uint8"))
        return s.cast(flipped, dot.left)

    return Factor(dot, other_sign, moved, False, moved)


def half_factor(dot: DotProduct, dtype: str) -> Factor:
    """The factor ``x`` for elements of a half type."""
    return Factor(dot, lambda x: s.cast(x, dot.left), direct=dtype == dot.left)


def half_dot(context: Context) -> DotProduct | None:
    """How products of the node's type are taken, if that is a half type and the CPU can."""
    if context.machine.dots is None:
        return None
    return {"float16": context.machine.dots.float16, "bfloat16": context.machine.dots.bfloat16}.get(
        context.dtype
    )


def narrow_matmul(
    context: Context, x: Expr, factor: Factor, weight: torch.Tensor, bias: torch.Tensor | None
) -> Expr:
    """``x @ weight.T + bias``, of the node's type.

    Args:
        x: ``[..., rows, K]``.
        weight: ``[N, K]``, of the type that ``factor.dot`` holds weights in.
        bias: ``[N]`` or None, of the type of the sums.
    """
    *lead, rows, depth = shape_of(x)
    outputs, group = weight.shape[0], factor.dot.group
    size = int(depth)
    tile = _tile(context, factor, context.rows_at_once(rows), outputs, size)
    panels = _panels(weight.T.reshape(size, outputs), tile.columns, group)

    prepare = None if factor.direct and size % group == 0 else lambda data: _whole_groups(data, size, factor)
    x, inside = _prepared(context, x, factor, prepare)

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        data = inside(data)
        k = te.reduce_axis((0, -(-size // group)), "k")

        def left(outer: Sequence[Any], row: Any, element: Any) -> Any:
            return data(*outer, row, element)

        return _product(factor, lead, rows, outputs, tile, left, packed, [k], offset, context.dtype)

    operands = [x, context.constant(panels), *_offset(context, factor, weight, bias)]
    return context.kernel("narrow_matmul", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def narrow_conv2d(
    context: Context,
    x: Expr,
    factor: Factor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    strides: Sequence[int],
    padding: Sequence[int],
    dilations: Sequence[int],
    shape: Sequence[Any],
    *,
    planes: bool = False,
) -> Expr:
    """A convolution of one group, channels last.

    Args:
        x: ``[N, H, W, C]``.
        weight: ``[O, C, KH, KW]``, of the type that ``factor.dot`` holds weights in.
        bias: ``[O]`` or None, of the type of the sums.
        padding: ``[top, left, bottom, right]``.
        shape: of the result, ``[N, OH, OW, O]``.
        planes: whether ``x`` is ``[N, C, H, W]``; its channels are then moved on the way.
    """
    batch, height, width, outputs = shape
    channels, taps, group = weight.shape[1], weight.shape[2:], factor.dot.group
    groups = -(-channels // group)
    tile = _tile(context, factor, context.rows_at_once(width), int(outputs), strides[1] * groups * group)
    wide = torch.nn.functional.pad(weight.permute(2, 3, 1, 0), (0, 0, 0, groups * group - channels))
    panels = _panels(wide.reshape(-1, weight.shape[0]), tile.columns, group)
    panels = panels.reshape(panels.shape[0], *taps, groups, *panels.shape[2:])

    def prepare(data: te.Tensor) -> te.Tensor:
        return _image(data, channels, groups * group, padding, factor, planes)

    ready = factor.direct and channels % group == 0 and not any(padding) and not planes
    x, inside = _prepared(context, x, factor, None if ready else prepare)

    def define(data: te.Tensor, packed: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        data = inside(data)
        kh, kw = (te.reduce_axis((0, n), f"k{i}") for i, n in enumerate(taps))
        channel = te.reduce_axis((0, groups), "c")

        def left(outer: Sequence[Any], row: Any, element: Any) -> Any:
            n, y = outer
            return data(n, y * strides[0] + kh * dilations[0], row * strides[1] + kw * dilations[1], element)

        return _product(
            factor, [batch, height], width, int(outputs), tile, left, packed, [kh, kw, channel], offset,
            context.dtype,
        )  # fmt: skip

    operands = [x, context.constant(panels), *_offset(context, factor, weight, bias)]
    return context.kernel("narrow_conv2d", operands, define, pattern=OUT_ELEMENTWISE_FUSIBLE)


def _prepared(
    context: Context, x: Expr, factor: Factor, prepare: Callable[[te.Tensor], te.Tensor] | None
) -> tuple[Expr, Callable[[te.Tensor], te.Tensor]]:
    """The left operand, and what is to be done with it inside of the kernel."""
    if prepare is None:
        return x, lambda data: data
    if factor.dot.left == "bfloat16":
        # Inside of a kernel TVM holds all bfloat16 as float32, which the instruction does not take.
        return context.kernel("pairs", [x], prepare), lambda data: data
    return x, prepare


def _product(
    factor: Factor,
    lead: Sequence[Any],
    rows: Any,
    outputs: int,
    tile: PackedTile,
    left: Callable[[Sequence[Any], Any, Any], Any],
    packed: te.Tensor,
    axes: list[Any],
    offset: Sequence[te.Tensor],
    dtype: str,
) -> te.Tensor:
    """The product; ``left`` gives an element along the last of ``axes``, which counts groups."""
    dot = factor.dot
    within = [te.reduce_axis((0, dot.group), "within")] if dot.group > 1 else []

    def term(outer: Sequence[Any], row: Any, panel: Any, column: Any) -> Any:
        element = axes[-1] * dot.group + within[0] if within else axes[-1]
        value = s.cast(left(outer, row, element), dot.total)
        weight = s.cast(packed(panel, *axes, column, *within), dot.total)
        return te.sum(value * weight, axis=[*axes, *within])

    total = whole_tiles(lead, rows, outputs, tile, term, group=dot.group)
    return finished(total, lead, rows, outputs, tile, offset, dtype)


def _tile(context: Context, factor: Factor, rows: int | None, outputs: int, stride: int) -> PackedTile:
    """A tile of 32-bit sums; ``stride`` is in elements of the left operand, four, two or one a lane."""
    assert context.registers is not None
    size = {"uint8": 1, "int8": 1, "int16": 2, "bfloat16": 2}.get(factor.dot.left, 4)
    lanes = stride * size // 4 if stride * size % 4 == 0 else 0
    tile = PackedTile.of(rows, outputs, context.registers, lanes)
    narrowest = factor.dot.narrowest
    return PackedTile(tile.rows, -(-tile.columns // narrowest) * narrowest)


def _panels(matrix: torch.Tensor, columns: int, group: int) -> torch.Tensor:
    """``[K, N]`` to ``[⌈N / columns⌉, ⌈K / group⌉, columns, group]``, and zeros; no last axis of 1."""
    depth, outputs = matrix.shape
    count, groups = -(-outputs // columns), -(-depth // group)
    wide = torch.nn.functional.pad(matrix, (0, count * columns - outputs, 0, groups * group - depth))
    panels = wide.reshape(groups, group, count, columns).permute(2, 0, 3, 1)
    return (panels.squeeze(3) if group == 1 else panels).contiguous()


def _offset(context: Context, factor: Factor, weight: torch.Tensor, bias: torch.Tensor | None) -> list[Expr]:
    """What is added to each column: the bias, less the zero point's share."""
    if factor.zero:
        share = weight.flatten(1).sum(1, dtype=torch.int64) * factor.zero
        total = -share if bias is None else bias.to(torch.int64) - share
        bias = total.to(torch.int32)  # modulo 2^32
    return [] if bias is None else [context.constant(bias)]


def _whole_groups(data: te.Tensor, depth: int, factor: Factor) -> te.Tensor:
    """Rows of ``depth`` elements as the instruction takes them; what fills a group up meets zeros."""
    whole = -(-depth // factor.dot.group) * factor.dot.group

    def element(*index: Any) -> Any:
        *outer, k = index
        return factor.read(data(*outer, k if whole == depth else tirx.min(k, depth - 1)))

    return te.compute([*data.shape[:-1], whole], element, name="left")


def _image(
    data: te.Tensor, channels: int, whole: int, padding: Sequence[int], factor: Factor, planes: bool
) -> te.Tensor:
    """The image with its border and whole groups of channels, as the instruction takes them."""
    top, left, bottom, right = padding
    batch = data.shape[0]
    height, width = data.shape[2:] if planes else data.shape[1:3]

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        channel = c if whole == channels else tirx.min(c, channels - 1)
        place = (channel, y - top, x - left) if planes else (y - top, x - left, channel)
        pixel = factor.read(data(n, *place))
        if not any(padding):
            return pixel
        # Columns are tested at the two ends of a row only: loop partitioning separates what is likely.
        inside = tirx.all(y >= top, y < height + top, tirx.likely(x >= left), tirx.likely(x < width + left))
        return tirx.if_then_else(inside, pixel, s.constant(factor.border, str(pixel.ty.dtype)))

    shape = [batch, height + top + bottom, width + left + right, whole]
    return te.compute(shape, element, name=PADDED if any(padding) else "image")
