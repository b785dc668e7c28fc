"""The same program written down in another way: what passes make of it must be the same too.

Values have other names and calls stand in another legal order; where the pipeline drops dead code first,
there is some.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import fx

from graphopt._torch import LazyGraphModule
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import culprit, exception_problem, run_passes
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.ir.provenance import origin, set_origin
from graphopt.passmanager.base import Pass, flatten

aten = torch.ops.aten


def renamed(program: Program, seed: int) -> Program:
    """Other names for all values but the inputs, whose names are the interface."""
    nodes = list(program.graph.nodes)
    order = list(range(len(nodes)))
    random.Random(seed).shuffle(order)
    return _rewritten(program, nodes, {n: f"v{i}" for n, i in zip(nodes, order, strict=True)})


def reordered(program: Program, seed: int) -> Program:
    """The calls in another order in which each reads only what stands before it."""
    generator = random.Random(seed)
    nodes = list(program.graph.nodes)
    placed = [n for n in nodes if n.op == "placeholder"]
    known, waiting = set(placed), [n for n in nodes if n.op not in ("placeholder", "output")]
    while waiting:
        chosen = generator.choice([n for n in waiting if known.issuperset(n.all_input_nodes)])
        waiting.remove(chosen)
        placed.append(chosen)
        known.add(chosen)
    return _rewritten(program, [*placed, program.graph.output_node()], {})


def with_dead_code(program: Program, seed: int) -> Program:
    """Calls that no output needs, on values that others need."""
    floats = [
        n for n in program.graph.nodes
        if isinstance(v := n.meta.get("val"), torch.Tensor) and v.dtype.is_floating_point
    ]  # fmt: skip
    copied = _rewritten(program, list(program.graph.nodes), {})
    if not floats:
        return copied
    name = random.Random(seed).choice(floats).name
    used = next(n for n in copied.graph.nodes if n.name == name)
    with copied.graph.inserting_before(copied.graph.output_node()):
        dead = copied.graph.call_function(aten.exp.default, (used,))
    dead.meta["val"] = used.meta["val"]  # of the same shape and dtype
    set_origin(dead, origin(used))
    return copied


def _rewritten(program: Program, order: Sequence[fx.Node], names: Mapping[fx.Node, str]) -> Program:
    """A copy whose nodes stand in another order, and some of which are called something else."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in order:
        arguments = fx.map_arg((node.args, node.kwargs), copies.__getitem__)
        kept = node.op in ("placeholder", "output")
        name = node.name if kept else names.get(node, node.name)
        copies[node] = graph.create_node(node.op, node.target, *arguments, name=name)
        copies[node].meta = dict(node.meta)
    return program.replaced(graph_module=LazyGraphModule(program.graph_module, graph))


class Variants:
    """The result does not depend on names, on the order of independent calls, or on dead code.

    Nor does it on chance: a variant is a run of its own.  Results are compared by the structural hash.
    """

    name = "variants"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return subject.outcome.program is not None

    def check(self, subject: Subject) -> Iterator[Problem]:
        seed, program = subject.case.seed, subject.program
        assert subject.outcome.program is not None
        expected = subject.outcome.program.structural_hash()
        steps = {"renaming": renamed, "reordering": reordered}
        if _drops_dead_code_first(subject.pipeline):
            steps["dead-code"] = with_dead_code
        together = program
        for step in steps.values():
            together = step(together, seed)
        if self._same(subject, together, expected):
            return
        if not self._same(subject, program, expected):
            yield self._problem(subject, program, "nondeterministic", "two runs on one program differ")
            return
        for kind, step in steps.items():
            variant = step(program, seed)
            if not self._same(subject, variant, expected):
                yield self._problem(subject, variant, kind, f"the result depends on {kind}")
                return
        yield self._problem(subject, together, "variant", "the result depends on how the graph is written")

    @staticmethod
    def _same(subject: Subject, program: Program, expected: str) -> bool:
        after = run_passes(program, subject.pipeline).program
        return after is not None and after.structural_hash() == expected

    def _problem(self, subject: Subject, variant: Program, kind: str, words: str) -> Problem:
        """Looks for the first pass whose results differ on programs that do not yet."""
        one, other = subject.program, variant
        for item in flatten(subject.pipeline):
            first, second = run_passes(one, [item]), run_passes(other, [item])
            if second.error is not None and first.error is None:
                return exception_problem(item.name, self.name, second.error, kind)
            if first.program is None or second.program is None:
                break
            one, other = first.program, second.program
            if one.structural_hash() != other.structural_hash():
                return Problem(Signature(item.name, self.name, kind), f"{item.name}: {words}")
        names = "+".join(p.name for p in subject.pipeline)
        return Problem(Signature(names, self.name, kind), f"{names}: {words}")


def _drops_dead_code_first(passes: Sequence[Pass]) -> bool:
    return bool(passes) and flatten(passes)[0].name == "dead-code"


class Sharing:
    """A weight with several uses stays one weight: training moves all of its uses together."""

    name = "sharing"
    cost: Cost = "milliseconds"

    def applies(self, subject: Subject) -> bool:
        return subject.outcome.changed and all(p.preserves_training for p in flatten(subject.pipeline))

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
