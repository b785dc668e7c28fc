"""A network with a dozen operators, and compilers with one bug each: what the reducer is tried on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import graphopt as go
from graphopt.errors import GraphoptError
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Finding, Problem, Signature, normalised
from graphopt.fuzz.graphs import Call, Graph, Leaf, Ref
from graphopt.fuzz.oracles import Subject
from graphopt.ir.program import Program
from graphopt.passes.cleanup import batch_norm
from graphopt.rewriting.driver import apply_rules
from graphopt.rewriting.match import Emitter, Match, Value
from graphopt.rewriting.pattern import PatternOps
from graphopt.verification import verify

NETWORK = Graph(
    (
        Leaf("x", (2, 3, 12, 10), layout="transposed"),
        Leaf("kernel", (8, 3, 3, 3), role="weight"),
        Leaf("bias", (8,), role="weight"),
        Leaf("mean", (8,), role="constant"),
        Leaf("variance", (8,), role="constant", values="positive"),
        Leaf("matrix", (7, 8), role="weight"),
        Leaf("mask", (2, 30, 7), "float32"),
    ),
    (
        Call("conv", "aten.conv2d.default", (Ref("x"), Ref("kernel"), Ref("bias"), (1, 1), (1, 1))),
        Call(
            "bn",
            "aten.batch_norm.default",
            (Ref("conv"), None, None, Ref("mean"), Ref("variance"), False, 0.1, 1e-5, True),
        ),
        Call("act", "aten.hardtanh.default", (Ref("bn"), -0.5, 3.0)),
        Call("padded", "aten.constant_pad_nd.default", (Ref("act"), (1, 1, 0, 0), 0.5)),
        Call("pooled", "aten.avg_pool2d.default", (Ref("padded"), (2, 2), (2, 2))),
        Call("negated", "aten.neg.default", (Ref("pooled"),)),
        Call("rectified", "aten.relu.default", (Ref("negated"),)),
        Call("cut", "aten.slice.Tensor", (Ref("rectified"), 3, 0, 5)),
        Call("flat", "aten.reshape.default", (Ref("cut"), (2, 8, 30))),
        Call("turned", "aten.permute.default", (Ref("flat"), (0, 2, 1))),
        Call("scores", "aten.linear.default", (Ref("turned"), Ref("matrix"))),
        Call("masked", "aten.add.Tensor", (Ref("scores"), Ref("mask")), (("alpha", 2),)),
        Call("weights", "aten.softmax.int", (Ref("masked"), -1)),
        Call("out", "aten.tanh.default", (Ref("weights"),)),
    ),
    ("out", "negated"),
)


class ForgetsTheBias(batch_norm.BatchNormIntoLayer):
    def _folded(self, match: Match) -> object:
        weight, bias = super()._folded(match)
        return weight, batch_norm.scale_and_shift(match)[1]


class WrongAxis(go.RewriteRule):
    """softmax(x, -1) -> softmax(x, -2)"""

    def pattern(self, op: PatternOps, x: object) -> object:
        return op.softmax(x, -1, ...)

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.softmax(x, x.rank - 2)


class PadsOneTooFar(go.RewriteRule):
    """a row of padding moves from one side to the other"""

    def pattern(self, op: PatternOps, x: object, pad: object, value: object) -> object:
        return op.constant_pad_nd(x, op.where(pad, lambda p: p[0] > 0, "on the left"), value)

    def rewrite(self, op: Emitter, x: Value, pad: list[int], value: float) -> Value:
        return op.constant_pad_nd(x, [pad[0] - 1, pad[1] + 1, *pad[2:]], value)


class SwapsNeighbours(go.RewriteRule):
    """relu(-x) -> -relu(x)"""

    def pattern(self, op: PatternOps, x: object) -> object:
        return op.relu(op.shared(op.neg(x)))

    def rewrite(self, op: Emitter, x: Value) -> Value:
        return op.neg(op.relu(x))


class Raises(go.RewriteRule):
    """a rule that fails on the permutation of a reshaped tensor"""

    def pattern(self, op: PatternOps, x: object, order: object) -> object:
        return op.permute(op.reshape(x, op.any), order)

    def rewrite(self, op: Emitter, match: Match) -> Value:
        raise RuntimeError(f"no strides for {match.result.shape} at {hex(id(match))}")


class Planted:
    """An oracle for a compiler that applies one wrong rule."""

    name = "planted"
    cost = "milliseconds"

    def __init__(self, rule: type[go.RewriteRule]) -> None:
        self.rule = rule

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        problem = self.problem(subject.program)
        if problem is not None:
            yield problem

    def problem(self, program: Program) -> Problem | None:
        rewriter = go.Rewriter(program, "planted")
        try:
            apply_rules(rewriter, [self.rule()])
        except GraphoptError as error:
            kind = "exception"
            return Problem(Signature("planted", "runs", kind, normalised(error.message)), error.message)
        report = verify(program, rewriter.finish(), draws=1, runs=4)
        if report.ok:
            return None
        return Problem(Signature("planted", "contract", "value"), report.summary())


BUGS: dict[type[go.RewriteRule], int] = {
    ForgetsTheBias: 2,
    WrongAxis: 1,
    PadsOneTooFar: 1,
    SwapsNeighbours: 2,
    Raises: 2,
}
"""Each wrong rule, and the operators without which it does not apply."""


def finding_of(rule: type[go.RewriteRule], passes: tuple[str, ...] = ("cleanup",)) -> Finding:
    """What a campaign would have found in the network."""
    case = FuzzCase(NETWORK, passes=passes, seed=3, label="7/11")
    problem: Callable[[Program], Problem | None] = Planted(rule).problem
    found = problem(Subject(case).program)
    assert found is not None
    return Finding(case, found)
