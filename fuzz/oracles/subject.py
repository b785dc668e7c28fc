"""What oracles look at: a case, and everything computed from it, each once."""

from __future__ import annotations

import functools
from functools import cached_property

import torch

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.graphs import build_program, draw_inputs
from graphopt.fuzz.oracles.running import Outcome, run_passes
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
        """The program of the case's graph; oracles must not change it.

        Raises:
            ValueError, InputError: the graph is none that torch accepts; the case says nothing of passes.
        """
        return build_program(self.case.graph, self.case.seed)

    @cached_property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """One set of inputs."""
        return draw_inputs(self.case.graph, self.case.seed)

    @cached_property
    def pipeline(self) -> tuple[Pass, ...]:
        """The passes of the case."""
        return _pipeline(self.case.passes)

    @cached_property
    def before(self) -> tuple[str, str]:
        """Hash and text of the program as it was built."""
        return self.program.structural_hash(), str(self.program)

    @cached_property
    def outcome(self) -> Outcome:
        """What the pipeline made of the program."""
        assert self.before  # taken first: a pass may change what it is given
        return run_passes(self.program, self.pipeline)


@functools.lru_cache(maxsize=64)
def _pipeline(passes: tuple[str, ...]) -> tuple[Pass, ...]:
    """Built once: passes do not change, and they keep their compiled patterns."""
    return tuple(build_pipeline(list(passes)))
