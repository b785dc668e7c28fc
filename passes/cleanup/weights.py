"""The weight of a convolution or linear layer, scaled per channel: what folding rules share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from graphopt.passes.cleanup.facts import call_again, operands
from graphopt.rewriting.match import Emitter, Match, Value
from graphopt.rewriting.pattern import PatternOps

aten = torch.ops.aten

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
                "convolution")  # fmt: skip
_TRANSPOSED = frozenset({aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d})


def weighted(op: PatternOps, x: Any, w: Any, b: Any) -> Any:
    """A pattern: a convolution of any kind or a linear layer, bound to ``product``."""
    return op.either(
        op.named("product", op.any_of(CONVOLUTIONS, x, w, b, ...)), op.named("product", op.linear(x, w, b))
    )


@dataclass(frozen=True)
class Layer:
    """A convolution or linear call, as far as per-channel scaling concerns it."""

    node: fx.Node

    @property
    def packet(self) -> Any:
        return self.node.target.overloadpacket  # type: ignore[union-attr]

    @property
    def is_linear(self) -> bool:
        return self.packet is aten.linear

    @property
    def is_transposed(self) -> bool:
        return self.packet in _TRANSPOSED or bool(operands(self.node).get("transposed"))

    @property
    def groups(self) -> int:
        return int(operands(self.node).get("groups", 1))

    @property
    def is_unpadded(self) -> bool:
        """Whether every output position sees only real inputs, so that a shift of the input is one
        constant per output channel."""
        padding = operands(self.node).get("padding", 0)
        if self.is_linear or padding == "valid":
            return True
        if self.is_transposed or isinstance(padding, str):
            return False
        return all(p == 0 for p in (padding if isinstance(padding, (list, tuple)) else [padding]))

    def channel_axis(self, rank: int) -> int:
        """Where the channels are in an input or output of ``rank`` axes."""
        if self.is_linear:
            return rank - 1
        return 1 if rank == self.node.args[1].meta["val"].dim() else 0  # type: ignore[union-attr]

    def out_channels(self, weight: torch.Tensor) -> int:
        return weight.shape[1] * self.groups if self.is_transposed else weight.shape[0]

    def in_channels(self, weight: torch.Tensor) -> int:
        return weight.shape[0] if self.is_transposed else weight.shape[1] * self.groups

    def scaled_outputs(self, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """``weight`` such that output channel ``i`` is multiplied by ``scale[i]``."""
        if not self.is_transposed:
            return weight * _aligned(scale, weight, 0)
        grouped = weight.unflatten(0, (self.groups, -1))
        per_group = scale.reshape(self.groups, 1, -1, *[1] * (weight.dim() - 2))
        return (grouped * per_group).flatten(0, 1)

    def scaled_inputs(self, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """``weight`` such that the layer sees input channel ``i`` multiplied by ``scale[i]``."""
        if self.is_transposed:
            return weight * _aligned(scale, weight, 0)
        grouped = weight.unflatten(0, (self.groups, -1))
        per_group = scale.reshape(self.groups, 1, -1, *[1] * (weight.dim() - 2))
        return (grouped * per_group).flatten(0, 1)

    def response_to(self, weight: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """What a constant ``shift[i]`` in every input channel adds to each output channel."""
        scaled = self.scaled_inputs(weight, shift)
        return scaled.sum(dim=tuple(range(1, scaled.dim())))


def _aligned(vector: torch.Tensor, weight: torch.Tensor, axis: int) -> torch.Tensor:
    return vector.reshape([-1 if i == axis else 1 for i in range(weight.dim())])


def refusal(match: Match) -> str | None:
    """Why the weight and bias of ``match.product`` cannot be changed, or None."""
    if not match.product.dtype.is_floating_point:
        return "the layer is not floating point"
    for name, what in (("w", "weight"), ("b", "bias")):
        value = match.bindings[name]
        if value is None:
            continue
        if not isinstance(value, Value) or not value.is_constant:
            return f"the {what} is not a constant"
        if value.is_shared:
            return f"the {what} is also used elsewhere"
        if value.dtype != match.product.dtype:
            return f"the {what} has another dtype than the layer"
    return None


def per_channel(tensor: torch.Tensor, axis: int, rank: int, channels: int) -> torch.Tensor | None:
    """A constant that broadcasts against ``rank`` axes as one number a channel, or None.

    Returns:
        shape ``[channels]``, float64.
    """
    if tensor.dim() > rank:
        return None
    sizes = [1] * (rank - tensor.dim()) + list(tensor.shape)
    if any(size != 1 for i, size in enumerate(sizes) if i != axis) or sizes[axis] not in (1, channels):
        return None
    return tensor.detach().double().reshape(-1).expand(channels)


def rebuilt(
    op: Emitter, match: Match, weight: torch.Tensor, bias: torch.Tensor | None, x: Value | None = None
) -> Value:
    """``match.product`` once more with a new weight and bias, given in float64.

    The new tensors have the old dtype and stay trainable where the old ones were.
    """
    old: Value = match.w
    new_weight = op.constant(_renamed(old), _like(weight, old))
    changes: dict[str, Any] = {"weight": new_weight}
    if bias is not None:
        source: Value = match.b if match.b is not None else old
        stem = _renamed(source) if match.b is not None else _bias_name(str(old.node.target))
        changes["bias"] = op.constant(stem, _like(bias, source))
    if x is not None:
        changes["input"] = x
    return call_again(op, match.product.node, **changes)


def _renamed(value: Value) -> str:
    return folded_name(str(value.node.target))


def _bias_name(weight: str) -> str:
    """The usual name of the bias next to a weight."""
    stem, dot, _ = weight.rpartition(".")
    return f"{stem}{dot}bias_folded" if dot else f"{weight}_bias_folded"


def folded_name(name: str) -> str:
    """The name of what a weight was folded into; folded twice, it says so once."""
    return re.sub(r"(_folded(_\d+)?)+$", "", name) + "_folded"


def _like(tensor: torch.Tensor, old: Value) -> torch.Tensor:
    data = tensor.to(old.dtype).contiguous()
    before = old.tensor
    return torch.nn.Parameter(data, before.requires_grad) if isinstance(before, torch.nn.Parameter) else data


def fits(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether every element is finite in ``dtype``."""
    return bool(torch.isfinite(tensor.to(dtype)).all())
