"""The same program written down in another way: what passes make of it must be the same too.

Values have other names, calls stand in another legal order, and the inputs are called something else.
Where the pipeline drops dead code first, there is some.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphopt.errors import GraphoptError
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.graphs import Call, Graph, Ref, build_program
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import culprit, exception_problem, run_passes
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.passmanager.base import Pass, flatten


def renamed(graph: Graph, seed: int) -> Graph:
    """Other names for inputs and calls; weights keep theirs, which they are drawn by."""
    order = list(range(len(graph.inputs) + len(graph.calls)))
    random.Random(seed).shuffle(order)
    names = [leaf.name for leaf in graph.inputs] + [call.name for call in graph.calls]
    return graph.renamed({name: f"v{i}_{name[:3]}" for name, i in zip(names, order, strict=True)})


def reordered(graph: Graph, seed: int) -> Graph:
    """The calls in another order in which each reads only what stands before it."""
    generator = random.Random(seed)
    known = {leaf.name for leaf in graph.leaves}
    waiting, placed = list(graph.calls), []
    while waiting:
        ready = [c for c in waiting if known.issuperset(c.uses)]
        chosen = generator.choice(ready)
        waiting.remove(chosen)
        placed.append(chosen)
        known.add(chosen.name)
    return replace(graph, calls=tuple(placed))


def with_dead_code(graph: Graph, seed: int) -> Graph:
    """Calls that no output needs, on values that others need."""
    generator = random.Random(seed)
    floats = [x.name for x in graph.inputs if x.dtype.startswith(("float", "bfloat"))]
    if not floats:
        return graph
    first = Call("dead_a", "aten.mul.Tensor", (Ref(generator.choice(floats)), Ref(generator.choice(floats))))
    if first.uses[0] != first.uses[1]:  # their shapes need not go together
        first = replace(first, arguments=(first.arguments[0],) * 2)
    second = Call("dead_b", "aten.exp.default", (Ref("dead_a"),))
    return replace(graph, calls=(first, second, *graph.calls))


class Variants:
    """The result does not depend on names, on the order of independent calls, or on dead code.

    Nor does it on chance: a variant is a run of its own.  Results are compared by the structural hash.
    """

    name = "variants"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return subject.outcome.program is not None and not subject.case.graph.sizes

    def check(self, subject: Subject) -> Iterator[Problem]:
        graph, seed = subject.case.graph, subject.case.seed
        expected = _digest(subject.outcome.program, subject.program)
        steps = {"renaming": renamed, "reordering": reordered}
        if _drops_dead_code_first(subject.pipeline):
            steps["dead-code"] = with_dead_code
        together = graph
        for step in steps.values():
            together = step(together, seed)
        if self._same(subject, together, expected):
            return
        if not self._same(subject, graph, expected):
            yield self._problem(subject, graph, "nondeterministic", "two runs on one program differ")
            return
        for kind, step in steps.items():
            variant = step(graph, seed)
            if not self._same(subject, variant, expected):
                yield self._problem(subject, variant, kind, f"the result depends on {kind}")
                return
        yield self._problem(subject, together, "variant", "the result depends on how the graph is written")

    @staticmethod
    def _same(subject: Subject, graph: Graph, expected: str) -> bool:
        program = build_program(graph, subject.case.seed)
        after = run_passes(program, subject.pipeline).program
        return after is not None and _digest(after, subject.program) == expected

    def _problem(self, subject: Subject, variant: Graph, kind: str, words: str) -> Problem:
        """Looks for the first pass whose results differ on programs that do not yet."""
        try:
            one, other = subject.program, build_program(variant, subject.case.seed)
        except GraphoptError as error:
            return exception_problem("fuzz", self.name, error)
        for item in flatten(subject.pipeline):
            first, second = run_passes(one, [item]), run_passes(other, [item])
            if second.error is not None and first.error is None:
                return exception_problem(item.name, self.name, second.error, kind)
            if first.program is None or second.program is None:
                break
            one, other = first.program, second.program
            if _digest(one, subject.program) != _digest(other, subject.program):
                return Problem(Signature(item.name, self.name, kind), f"{item.name}: {words}")
        names = "+".join(p.name for p in subject.pipeline)
        return Problem(Signature(names, self.name, kind), f"{names}: {words}")


def _digest(program: Program | None, original: Program) -> str:
    """The structural hash with the original's names of inputs and outputs."""
    assert program is not None
    return program.replaced(signature=original.signature).structural_hash()


def _drops_dead_code_first(passes: Sequence[Pass]) -> bool:
    return bool(passes) and flatten(passes)[0].name == "dead-code"


class Sharing:
    """A weight with several uses stays one weight: training moves all of its uses together."""

    name = "sharing"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return subject.rewritten and all(p.preserves_training for p in flatten(subject.pipeline))

    def check(self, subject: Subject) -> Iterator[Problem]:
        after = subject.outcome.program
        assert after is not None
        if not _grew(subject.program, after):
            return

        def grew(before: Program, after: Program, passes: Sequence[Pass]) -> bool:
            return _grew(before, after)

        component, rule = culprit(subject.program, subject.pipeline, grew)
        yield Problem(
            Signature(component, self.name, "copied", rule),
            f"{component} makes more trainable weights than there were: a shared one was copied",
        )


def _grew(before: Program, after: Program) -> bool:
    return _trainable(after) > _trainable(before)


def _trainable(program: Program) -> int:
    distinct = {id(t): t.numel() for t in program.constants.values() if t.requires_grad}
    return sum(distinct.values())
