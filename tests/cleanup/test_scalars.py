"""Scalars next to sizes that are known only at run time."""

import torch
from torch import nn

from graphopt.frontends.torch_module import capture_torch
from graphopt.passes.cleanup import Scalars
from graphopt.passmanager.manager import PassManager


class Positions(nn.Module):
    """The position of the next token: a constant of one element plus the cache's length."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(1, dtype=torch.int64))

    def forward(self, cache: torch.Tensor) -> torch.Tensor:
        return (self.zero + cache.shape[0]) * torch.ones(2, dtype=torch.int64)


def test_a_constant_plus_a_symbolic_size_is_left_alone() -> None:
    program = capture_torch(Positions().eval(), (torch.randn(5),), dynamic_shapes=({0: "past"},))
    result = PassManager([Scalars()], reproducer_dir=False).run(program).program
    for length in (1, 9):
        assert result(torch.randn(length))[0].tolist() == [length, length]
