"""Code generation: the compiled artifact computes what the program does.

A small graph takes longer to link than to compile, so :meth:`Compiled.check_all` puts several programs of
fixed sizes into one artifact.  Where that does not compile or an output of it is wrong, the programs
concerned are tried again alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphopt.errors import GraphoptError
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.graphs import Call, Graph, Leaf, graph_of
from graphopt.fuzz.oracles.onnx_file import UNSUPPORTED, chosen_program, compared
from graphopt.fuzz.oracles.oracle import Cost
from graphopt.fuzz.oracles.running import exception_problem
from graphopt.fuzz.oracles.subject import Subject
from graphopt.ir.program import Program
from graphopt.verification import verify

_LARGEST = 4096
"""Elements of an operand whose values are written into a graph."""

PACK = 8
"""Programs in one artifact; more of them save little and lose more when one does not compile."""


class Compiled:
    """The compiled artifact computes what the program does.

    A case with dynamic axes is compiled with them, run at other sizes too, and compiled again for the
    sizes it was drawn with.

    Args:
        target: a name of :func:`graphopt.codegen.targets.find_target` whose code runs here.

    Attributes:
        pack: how many cases :meth:`check_all` is best given at a time.
    """

    cost: Cost = "compile"
    pack = PACK

    def __init__(self, target: str = "cpu") -> None:
        self.target = target
        self.name = f"compiled-{target}"

    def applies(self, subject: Subject) -> bool:
        return True

    def check(self, subject: Subject) -> Iterator[Problem]:
        yield from self._alone(subject, chosen_program(subject))
        if subject.case.graph.sizes:
            static = Subject(replace(subject.case, graph=with_fixed_sizes(subject.case.graph)))
            yield from self._alone(static, static.program)

    def check_all(self, subjects: Sequence[Subject]) -> Iterator[tuple[int, Problem]]:
        """The problems of several cases, each with the position of its case."""
        packed = [i for i, s in enumerate(subjects) if not s.case.graph.sizes]
        suspicious = [i for i in range(len(subjects)) if i not in packed]
        if len(packed) > 1:
            suspicious += [packed[i] for i in self._failing([subjects[i] for i in packed])]
        else:
            suspicious += packed
        for i in sorted(suspicious):
            for problem in self.check(subjects[i]):
                yield i, problem

    def _failing(self, subjects: Sequence[Subject]) -> list[int]:
        """Which of several cases have to be looked at alone: all of them if one does not compile."""
        try:
            programs = [chosen_program(s) for s in subjects]
            together = packed(programs, [s.inputs for s in subjects])
            artifact = self._compile(together)
            outputs = list(artifact(*(x.clone() for s in subjects for x in s.inputs)))
        except Exception:  # whatever it is, it comes again where the programs are tried alone
            return list(range(len(subjects)))
        failing = []
        for i, (subject, program) in enumerate(zip(subjects, programs, strict=True)):
            count = len(program.signature.outputs)
            own, outputs = outputs[:count], outputs[count:]
            if _differ(subject, program, own):
                failing.append(i)
        return failing

    def _alone(self, subject: Subject, program: Program) -> Iterator[Problem]:
        try:
            artifact = self._compile(program)
        except Exception as error:
            if not (isinstance(error, GraphoptError) and error.code in UNSUPPORTED):
                yield exception_problem("codegen", self.name, error)
            return
        yield from compared(subject, program, artifact, "codegen", self.name, self._compile)

    def _compile(self, program: Program) -> Any:
        from graphopt.codegen.compiler import compile

        return compile(program, self.target, cache=False, tuned=False)


class EachOperator:
    """Each call of a graph, compiled alone, gives what it gives in the graph.

    The operands become inputs, so that nothing is fused or folded; equal calls are compiled once.
    """

    cost: Cost = "compile"

    def __init__(self, target: str = "cpu") -> None:
        self.target = target
        self.name = f"each-operator-{target}"

    def applies(self, subject: Subject) -> bool:
        return not subject.case.graph.sizes

    def check(self, subject: Subject) -> Iterator[Problem]:
        backend = Compiled(self.target)
        graphs = single_calls(subject.program, subject.inputs)
        alone = [Subject(replace(subject.case, graph=g)) for g in graphs]
        for i, problem in backend.check_all(alone):
            operator = alone[i].case.graph.calls[0].operator
            signature = Signature("codegen", self.name, problem.signature.kind, operator)
            yield replace(problem, signature=signature)


def single_calls(program: Program, inputs: Sequence[torch.Tensor]) -> Iterator[Graph]:
    """A graph for each call with tensors as operands, which are its inputs; each kind of call once.

    Operands have the values that they have when the program runs: an index stays in its range.
    """
    values = _Values(program.graph_module).of(inputs)
    graph = graph_of(program)
    nodes = {n.name: n for n in program.graph.nodes}
    leaves = {leaf.name: leaf for leaf in graph.leaves}
    readers = {c.uses[0]: c for c in graph.calls if c.operator == "operator.getitem"}
    seen: set[str] = set()
    for call in graph.calls:
        operands = list(dict.fromkeys(call.uses))
        if call.operator.startswith("operator.") or not operands:
            continue
        found = [values.get(nodes[name]) for name in operands]
        tensors = [t for t in found if isinstance(t, torch.Tensor) and t.numel() <= _LARGEST]
        if len(tensors) < len(found):
            continue
        inputs_of_call = [_leaf(n, t, leaves.get(n)) for n, t in zip(operands, tensors, strict=True)]
        calls: tuple[Call, ...] = (call,)
        if not isinstance(nodes[call.name].meta.get("val"), torch.Tensor):
            if call.name not in readers:
                continue
            calls = (call, readers[call.name])
        alone = Graph(tuple(inputs_of_call), calls, (calls[-1].name,))
        canonical = alone.renamed({p.name: f"v{i}" for i, p in enumerate(alone.values)})
        if canonical.digest() not in seen:
            seen.add(canonical.digest())
            yield alone


def with_fixed_sizes(graph: Graph) -> Graph:
    """The graph with its dynamic axes fixed to the sizes drawn for them."""
    leaves = tuple(replace(leaf, shape=graph.size_of(leaf)) for leaf in graph.leaves)
    return replace(graph, leaves=leaves, sizes=())


def packed(programs: Sequence[Program], inputs: Sequence[Sequence[torch.Tensor]]) -> Program:
    """One program that computes several, of fixed sizes, beside each other."""
    root = torch.nn.Module()
    graph = fx.Graph()
    copies: list[dict[fx.Node, fx.Node]] = []
    for i, program in enumerate(programs):
        setattr(root, f"part{i}", program.graph_module)
        nodes: dict[fx.Node, fx.Node] = {}
        for node in program.input_nodes:
            nodes[node] = graph.placeholder(f"part{i}_{node.name}")
        copies.append(nodes)
    for i, (program, nodes) in enumerate(zip(programs, copies, strict=True)):
        for node in program.graph.nodes:
            if node.op == "get_attr":
                nodes[node] = graph.get_attr(f"part{i}.{node.target}")
            elif node.op == "call_function":
                copied = graph.node_copy(node, lambda n, nodes=nodes: nodes[n])  # type: ignore[misc]
                copied.meta = {}  # values are derived anew: those of two programs do not go together
                nodes[node] = copied
    graph.output(tuple(nodes[o] for p, nodes in zip(programs, copies, strict=True) for o in p.output_nodes))
    return Program.from_graph_module(fx.GraphModule(root, graph), [x for part in inputs for x in part])


def _differ(subject: Subject, program: Program, outputs: Sequence[torch.Tensor]) -> bool:
    """Whether outputs are suspicious; the decision is made when the program is compiled alone."""
    report = verify(
        program, lambda *_: tuple(outputs), inputs=[subject.inputs], seed=subject.case.seed, quick=True
    )
    return bool(report.failures)


def _leaf(name: str, value: torch.Tensor, known: Leaf | None) -> Leaf:
    """The operand as a leaf; weights stay weights, since some operators want constants."""
    role = known.role if known is not None else "input"
    dtype = str(value.dtype).removeprefix("torch.")
    return Leaf(name, tuple(value.shape), dtype, role=role, given=tuple(value.flatten().tolist()))


class _Values(fx.Interpreter):
    """Keeps what each node of a graph computes."""

    def of(self, inputs: Sequence[torch.Tensor]) -> dict[fx.Node, Any]:
        self.garbage_collect_values = False
        with torch.no_grad():
            self.run(*inputs)
        return dict(self.env)
