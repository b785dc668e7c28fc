"""What every value of a case is, as torch computes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import Leaf, build_module, draw_inputs

_LARGEST_GIVEN = 4096


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.values[str(n.target) if n.op == "get_attr" else n.name] = value
        return value


def recorded(case: FuzzCase) -> dict[str, Any]:
    """The value of each leaf and call: a tensor, a list of tensors, a size."""
    recorder = _Recorder(build_module(case.graph, case.seed))
    with torch.no_grad():
        recorder.run(*draw_inputs(case.graph, case.seed))
    return recorder.values


def as_input(name: str, value: torch.Tensor) -> Leaf:
    """An input that takes the place of a computed value.

    Up to 4,096 elements it has the value itself; larger ones are drawn again, with indices in the range
    that they had.
    """
    dtype = str(value.dtype).removeprefix("torch.")
    shape = tuple(value.shape)
    if value.numel() <= _LARGEST_GIVEN and not value.is_complex():
        values = value.detach().flatten().tolist()
        integers = not value.is_floating_point()
        return Leaf(name, shape, dtype, values="integers" if integers else "normal", given=tuple(values))
    if value.is_floating_point() or value.is_complex():
        return Leaf(name, shape, dtype, values="positive" if _positive(value) else "normal")
    if value.dtype == torch.bool:
        return Leaf(name, shape, dtype, values="integers")
    return Leaf(name, shape, dtype, values="integers", low=int(value.min()), high=int(value.max()))


def _positive(value: torch.Tensor) -> bool:
    return not value.is_complex() and bool((value > 0).all())
