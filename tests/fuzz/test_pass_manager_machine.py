"""A user at the pass manager: passes in any order, files written and read, steps taken back.

After every step the program is valid, and computes what the contracts of all passes so far, taken together,
promise of the one that the user began with.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from graphopt.contract import Equivalence, Exact, compose_all
from graphopt.errors import PassError
from graphopt.exporters.pt2 import load_pt2
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.generation import Options, generate
from graphopt.fuzz.graphs import build_program, draw_inputs
from graphopt.ir.program import Program
from graphopt.passes import BUILTIN
from graphopt.passmanager.manager import PassManager
from graphopt.verification import verify


class User(RuleBasedStateMachine):
    """The state: the programs so far, and the contract of each with the first."""

    @initialize(index=st.integers(0, 30))
    def begin(self, index: int) -> None:
        self.case: FuzzCase = generate(23, index, Options(dynamic=0.0))
        self.original = build_program(self.case.graph, self.case.seed)
        self.before = (self.original.structural_hash(), str(self.original))
        self.history: list[tuple[Program, Equivalence]] = [(self.original, Exact())]
        self.verified = 0

    @property
    def program(self) -> Program:
        return self.history[-1][0]

    @rule(name=st.sampled_from(sorted(BUILTIN)))
    def apply(self, name: str) -> None:
        self._run(name)

    @rule()
    def clean_for_training(self) -> None:
        self._run("cleanup{training=true}")

    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.pt2")
            self.program.save(path)
            again = load_pt2(path)
        assert again.signature == self.program.signature
        assert again.structural_hash() == self.program.structural_hash()
        self.history.append((again, self.history[-1][1]))

    @precondition(lambda self: len(self.history) > 1)
    @rule()
    def undo(self) -> None:
        self.history.pop()
        self.verified = min(self.verified, len(self.history))

    @invariant()
    def everything_holds(self) -> None:
        program, contract = self.history[-1]
        program.check()
        if self.verified < len(self.history):
            inputs = [draw_inputs(self.case.graph, self.case.seed)]
            report = verify(self.original, program, contract=contract, inputs=inputs, quick=True)
            assert not report.failures, report
            self.verified = len(self.history)
        assert (self.original.structural_hash(), str(self.original)) == self.before

    def _run(self, spec: str) -> None:
        program, contract = self.history[-1]
        try:
            result = PassManager(spec, verify="off", reproducer_dir=False).run(program)
        except PassError as error:
            assert error.code == "GO-4002", error  # the pass does not take such a program
            return
        self.history.append((result.program, compose_all([contract, result.contract])))


TestUser = User.TestCase
TestUser.settings = settings(
    max_examples=8,
    stateful_step_count=8,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
