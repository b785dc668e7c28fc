"""``Program``: graphopt's one intermediate representation.

A program is an ``fx.GraphModule`` in torch.export's training IR, with everything that makes such a
graph awkward taken away: no pytrees, no guards, no mutation, no call_module.  What is left is

* ``placeholder`` nodes, one an input, in the signature's order;
* ``get_attr`` nodes for parameters, buffers and constants;
* ``call_function`` nodes whose target is a torch ``OpOverload`` (ATen or ``graphopt::``),
  ``operator.getitem``, or arithmetic on symbolic integers;
* one ``output`` node that holds a flat tuple.

Every node carries ``meta["val"]``: a fake tensor, or a (symbolic) number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from graphopt._torch import FakeTensor, FakeTensorMode, LazyGraphModule, detect_fake_mode
from graphopt.errors import InputError
from graphopt.ir.level import Level
from graphopt.ir.provenance import ProvenanceLog
from graphopt.ir.signature import DimRange, Signature

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class Program:
    """A pure, flat graph with its signature, level and history.

    Programs are values: passes take one and return another, and share its weights.  Mutate one only
    through a :class:`graphopt.ir.rewriter.Rewriter`, on a copy.

    Attributes:
        graph_module: the graph and its weights.
        signature: names, dtypes, shapes and symbolic dimensions of inputs and outputs.
        level: which operators may stand in the graph.
        provenance: the rewrites that the program has seen.
        symbols: torch's symbol names (``"s17"``) to dimension names (``"batch"``).  A dimension that is
            a multiple by construction has an axis of ``32*s17``, and the entry ``"height/32"``.
        notes: facts that capture found and the user should know (an axis that became static, …).
        metadata: what the model's author wrote beside the graph, by name.  graphopt keeps it from file to
            file and reads none of it.
    """

    def __init__(
        self,
        graph_module: fx.GraphModule,
        signature: Signature,
        *,
        level: Level = Level.TORCH,
        provenance: ProvenanceLog | None = None,
        symbols: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        _known_guards: int | None = None,
    ) -> None:
        self.graph_module = graph_module
        self.signature = signature
        self.level = level
        self.provenance = provenance or ProvenanceLog()
        self.symbols: dict[str, str] = dict(symbols or {})
        self.notes: list[str] = list(notes)
        self.metadata: dict[str, str] = dict(metadata or {})
        self._known_guards = len(self._guards()) if _known_guards is None else _known_guards

    # -- construction ------------------------------------------------------------------------

    @staticmethod
    def from_exported(
        exported: ExportedProgram,
        *,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        dim_names: Mapping[tuple[int, int], str] | None = None,
        dim_ranges: Mapping[str, DimRange] | None = None,
    ) -> Program:
        """The program of a ``torch.export.ExportedProgram``.

        Args:
            exported: in training or inference IR; mutation is made explicit (see
                :attr:`Signature.state`).
            input_names: names of the flat tensor inputs; default: the placeholders'.
            output_names: names of the flat outputs; default: the names of the nodes.
            dim_names: ``(input index, axis)`` to the name of that symbolic dimension.
            dim_ranges: overrides of the ranges that torch.export found, by dimension name.

        Raises:
            InputError: an input or output is not a tensor, or a node cannot stand in a program.
        """
        from graphopt.ir.normalize import program_from_exported

        return program_from_exported(
            exported,
            input_names=input_names,
            output_names=output_names,
            dim_names=dim_names or {},
            dim_ranges=dim_ranges or {},
        )

    @staticmethod
    def from_graph_module(
        graph_module: fx.GraphModule,
        inputs: Sequence[torch.Tensor],
        *,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ) -> Program:
        """A program of a graph that was built by hand, with static shapes.

        Args:
            graph_module: placeholders, get_attr and call_function nodes only; the output node
                holds a tuple.
            inputs: one (real or fake) tensor an input; they give shapes and dtypes.
        """
        from graphopt.ir.normalize import program_from_graph_module

        return program_from_graph_module(graph_module, inputs, input_names, output_names)

    def copy(self) -> Program:
        """A program with its own graph; the weights are shared."""
        graph = fx.Graph()
        mapping: dict[fx.Node, fx.Node] = {}
        output = graph.graph_copy(self.graph, mapping)
        graph.output(output)
        for old, new in mapping.items():
            new.meta = dict(old.meta)
        # Most programs are looked at and never called: Python code is made of a graph when it is.
        module = LazyGraphModule(self.graph_module, graph)
        module.meta = dict(self.graph_module.meta)
        return self.replaced(graph_module=module)

    def replaced(
        self,
        *,
        graph_module: fx.GraphModule | None = None,
        signature: Signature | None = None,
        level: Level | None = None,
        provenance: ProvenanceLog | None = None,
    ) -> Program:
        """This program with some of its parts exchanged; nothing is copied but the log."""
        return Program(
            graph_module if graph_module is not None else self.graph_module,
            signature or self.signature,
            level=level or self.level,
            provenance=provenance or self.provenance.copy(),
            symbols=self.symbols,
            notes=self.notes,
            metadata=self.metadata,
            _known_guards=self._known_guards,
        )

    # -- reading -----------------------------------------------------------------------------

    @property
    def graph(self) -> fx.Graph:
        return self.graph_module.graph

    @property
    def input_nodes(self) -> list[fx.Node]:
        return list(self.graph.find_nodes(op="placeholder"))

    @property
    def output_nodes(self) -> list[fx.Node]:
        """The nodes whose values are returned, in order; one may stand there twice."""
        return list(self.graph.output_node().args[0])  # type: ignore[arg-type]

    def calls(self) -> Iterator[fx.Node]:
        """The call_function nodes in order."""
        return iter([n for n in self.graph.nodes if n.op == "call_function"])

    def operator_nodes(self) -> list[fx.Node]:
        """The nodes that compute tensors: calls without shape arithmetic and tuple access."""
        from graphopt.ir.level import SHAPE_OPS, is_scalar_function

        return [n for n in self.calls() if not is_scalar_function(n.target) and n.target not in SHAPE_OPS]

    def constant(self, node: fx.Node | str) -> torch.Tensor:
        """The tensor behind a get_attr node (or its target).

        Raises:
            KeyError: there is no such tensor.
        """
        target = node if isinstance(node, str) else str(node.target)
        value: Any = self.graph_module
        for part in target.split("."):
            value = getattr(value, part, None)
        if not isinstance(value, torch.Tensor):
            raise KeyError(f"{target!r} is not a tensor of the program")
        return value

    @property
    def constants(self) -> dict[str, torch.Tensor]:
        """Every parameter, buffer and constant that the graph uses, by dotted name."""
        targets = dict.fromkeys(str(n.target) for n in self.graph.find_nodes(op="get_attr"))
        return {t: self.constant(t) for t in targets if self._is_tensor(t)}

    def _is_tensor(self, target: str) -> bool:
        try:
            self.constant(target)
        except KeyError:
            return False
        return True

    @property
    def fake_mode(self) -> FakeTensorMode:
        """The mode that the fake tensors in ``meta["val"]`` belong to."""
        for node in self.graph.nodes:
            if isinstance(value := node.meta.get("val"), FakeTensor):
                return value.fake_mode
        mode = detect_fake_mode([n.meta.get("val") for n in self.graph.nodes])
        return mode if mode is not None else FakeTensorMode(allow_non_fake_inputs=True)

    def _guards(self) -> list[Any]:
        environment = self.fake_mode.shape_env
        return environment.guards if environment is not None else []

    def accept_guards(self) -> None:
        """Takes what is known of symbolic sizes now as facts of the model."""
        self._known_guards = len(self._guards())

    def new_guards(self) -> list[Any]:
        """What has been decided about symbolic sizes since the program was captured (sympy)."""
        return [g.expr for g in self._guards()[self._known_guards :]]

    # -- running -----------------------------------------------------------------------------

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs the graph eagerly.

        Args:
            inputs: one tensor an input of the signature, in order.

        Raises:
            InputError: the inputs do not match the signature.
        """
        from graphopt.ir.inputs import check_inputs

        check_inputs(self.signature, inputs)
        return tuple(self.graph_module(*inputs))

    # -- forms -------------------------------------------------------------------------------

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Program {self.signature} level={self.level.value} nodes={len(self.operator_nodes())}>"

    def text(self, *, layers: bool = False) -> str:
        """A readable, stable form of the program; with the user's layer on each line if asked."""
        from graphopt.ir.text import program_text

        return program_text(self, layers=layers)

    def structural_hash(self, *, weights: bool = True) -> str:
        """A hex digest that is equal for programs of equal structure (and weights).

        Names of nodes, symbols and weights do not count; names of inputs and outputs do.
        """
        from graphopt.ir.hashing import structural_hash

        return structural_hash(self, weights=weights)

    def check(self) -> Program:
        """Raises :class:`PassError` if an invariant of the IR does not hold; returns self."""
        from graphopt.ir.verifier import check_program

        check_program(self)
        return self

    def to_exported(self) -> ExportedProgram:
        """The same program as a ``torch.export.ExportedProgram``."""
        from graphopt.exporters.exported_program import to_exported_program

        return to_exported_program(self)

    def save(self, path: str | Path) -> None:
        """Writes ``.pt2`` or ``.onnx``, by the file's suffix.

        Raises:
            InputError: the suffix is neither.
        """
        path = Path(path)
        if path.suffix == ".pt2":
            from graphopt.exporters.pt2 import save_pt2

            save_pt2(self, path)
        elif path.suffix == ".onnx":
            from graphopt.exporters.onnx import to_onnx

            to_onnx(self, path)
        else:
            raise InputError(
                f"cannot write a program to {path.name!r}", hint="use a name that ends in .pt2 or .onnx"
            )
