"""Integer products as quantized models write them: operands of 8 bits, centred and summed in int32.

``(x.to(int32) - zero) @ (w.to(int32) - zero)`` is what ONNX's integer operators mean and what torch needs
so that its own products do not wrap at 8 bits.  Here the operands behind it are found again, so that what
is multiplied are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphopt.codegen.relax.context import Context
from graphopt.codegen.relax.narrow import Factor, integer_factor
from graphopt.codegen.relax.weights import weight_of

aten = torch.ops.aten

_BYTES = {torch.int8: "int8", torch.uint8: "uint8"}
_CASTS = (aten.to.dtype, aten._to_copy.default)


@dataclass(frozen=True)
class CentredBytes:
    """``node - zero``, where ``node`` has elements of 8 bits."""

    node: fx.Node
    zero: int

    @property
    def dtype(self) -> str:
        return _BYTES[self.node.meta["val"].dtype]


def centred_bytes(node: Any) -> CentredBytes | None:
    """What an integer operand is made of; None where it is not a widened tensor of 8 bits less one number."""
    zero = 0
    if isinstance(node, fx.Node) and node.target is aten.sub.Tensor and not node.kwargs:
        node, offset = node.args
        number = weight_of(offset) if isinstance(offset, fx.Node) else torch.tensor(offset)
        if number is None or number.numel() != 1 or number.is_floating_point():
            return None
        zero = int(number)
    while isinstance(node, fx.Node) and node.target in _CASTS and _widens(node):
        node = node.args[0]
    if not isinstance(node, fx.Node) or node.meta["val"].dtype not in _BYTES or abs(zero) > 255:
        return None
    return CentredBytes(node, zero)


def _widens(node: fx.Node) -> bool:
    """Whether a conversion keeps every value of the integers that it converts."""
    source, target = node.all_input_nodes[0].meta["val"].dtype, node.meta["val"].dtype
    if target.is_floating_point or target is torch.bool or source not in _BYTES:
        return False
    return target in (torch.int16, torch.int32, torch.int64) or target == source


def packed_factor(
    context: Context, operand: CentredBytes, weight: torch.Tensor, *, padded: bool
) -> tuple[Factor, torch.Tensor] | None:
    """How the operand is multiplied, and the weights in the type for it; None where there is no way.

    Args:
        weight: integers of any type.
        padded: whether there is a border, in which ``operand`` is zero.
    """
    assert context.machine.dots is not None
    if weight.numel() == 0 or weight.is_floating_point() or weight.is_complex():
        return None
    low, high = int(weight.min()), int(weight.max())
    for dot in dict.fromkeys((context.machine.dots.bytes, context.machine.dots.words)):
        factor = integer_factor(dot, operand.dtype, operand.zero)
        held = torch.int8 if dot.right == "int8" else torch.int16
        limits, border = torch.iinfo(held), torch.iinfo(torch.uint8 if dot.left == "uint8" else torch.int8)
        representable = dot.left == "int16" or border.min <= factor.border <= border.max
        if limits.min <= low and high <= limits.max and (representable or not padded):
            return factor, weight.to(held)
    return None
