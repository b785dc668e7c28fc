"""The first node at which a candidate stops computing what the reference computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, fx

from graphopt.ir.program import Program
from graphopt.ir.provenance import origin
from graphopt.verification.noise import measure_noise
from graphopt.verification.rule import Comparison, compare
from graphopt.verification.runners import runner_of


@dataclass(frozen=True)
class Divergence:
    """Where two programs part.

    Attributes:
        node: name of the first node that both programs have and whose values differ.
        layer: the user's layer that it belongs to.
        comparison: how its values differ.
        agreed: the last nodes before it that both programs have and that agree.
        between: nodes of the candidate that ``node`` depends on and the reference does not have: what
            was rewritten, and so where to look.
    """

    node: str
    layer: str | None
    comparison: Comparison
    agreed: tuple[str, ...]
    between: tuple[str, ...]

    def __str__(self) -> str:
        where = f"{self.node} ({self.layer})" if self.layer else self.node
        suspects = f"; rewritten before it: {', '.join(self.between)}" if self.between else ""
        return f"first difference at {where}: {self.comparison.problem}{suspects}"


def localise(
    reference: Program, candidate: Program, inputs: Sequence[Tensor], *, runs: int | None = None
) -> Divergence | None:
    """Compares the intermediate values that two programs have in common, under the noise rule.

    Nodes correspond when they have the same name and the same dtype and shape; a rewrite keeps the
    names of the nodes that it leaves alone.

    Args:
        reference: the program before.
        candidate: the program after.
        inputs: on which the outputs differ.
        runs: perturbed runs, as for ``verify``.

    Returns:
        The first divergence in the candidate's order; None if every common value agrees, outputs
        included.
    """
    theirs = {n.name: n for n in reference.operator_nodes()}
    common = [n for n in candidate.operator_nodes() if n.name in theirs and _alike(n, theirs[n.name])]
    ours = [*common, *candidate.output_nodes]
    wanted = [*(theirs[n.name] for n in common), *reference.output_nodes]
    noise = measure_noise(_exposing(reference, wanted), inputs, runs=runs)
    values = runner_of(_exposing(candidate, ours))(inputs)
    for i, (node, value, expected) in enumerate(zip(ours, values, noise.outputs, strict=True)):
        result = compare(value, expected)
        if result.ok:
            continue
        agreeing = {n for n in ours[:i] if n is not node}
        frontier, between = _back_to(node, agreeing)
        return Divergence(
            node.name,
            origin(node).layer,
            result,
            tuple(n.name for n in frontier),
            tuple(n.name for n in between if n.name not in theirs),
        )
    return None


def _alike(a: fx.Node, b: fx.Node) -> bool:
    x, y = a.meta.get("val"), b.meta.get("val")
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        return False
    return x.dtype == y.dtype and [str(s) for s in x.shape] == [str(s) for s in y.shape]


def _exposing(program: Program, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    """The program's graph with ``nodes`` as its outputs; the program is not changed."""
    graph = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(program.graph, mapping)
    graph.output(tuple(mapping[n] for n in nodes))
    return fx.GraphModule(program.graph_module, graph)


def _back_to(node: fx.Node, agreed: set[fx.Node]) -> tuple[list[fx.Node], list[fx.Node]]:
    """Agreed nodes that ``node`` depends on directly or through others, and those others."""
    frontier: dict[fx.Node, None] = {}
    between: dict[fx.Node, None] = {}
    work = [node]
    while work:
        for operand in work.pop().all_input_nodes:
            if operand in agreed:
                frontier[operand] = None
            elif operand.op == "call_function" and operand not in between:
                between[operand] = None
                work.append(operand)
    return list(frontier), list(reversed(between))
