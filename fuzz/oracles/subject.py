"""What oracles look at: a case, and everything computed from it, each once."""

from __future__ import annotations

from functools import cached_property

import torch

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import build_program, draw_inputs
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass
from graphopt.passmanager.registry import build_pipeline


class Subject:
    """A case while it is looked at.

    Attributes:
        case: the case.
    """

    def __init__(self, case: FuzzCase) -> None:
        self.case = case

    @cached_property
    def program(self) -> Program:
        """The program of the case's graph; oracles must not change it."""
        return build_program(self.case.graph, self.case.seed)

    @cached_property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """One set of inputs."""
        return draw_inputs(self.case.graph, self.case.seed)

    @cached_property
    def pipeline(self) -> tuple[Pass, ...]:
        """The passes of the case."""
        return tuple(build_pipeline(list(self.case.passes)))
