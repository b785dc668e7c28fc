"""Program -> :class:`torch.export.ExportedProgram`, by direct construction.

The graph of a Program already is torch.export's training IR.  What an ExportedProgram adds is
calling convention: parameters, buffers and constants become leading placeholders, and a graph
signature says which placeholder is which tensor (the form is specified at
https://docs.pytorch.org/docs/stable/export/ir_spec.html).  So the graph is copied node by node and
nothing is traced again: node names, fake values, symbols, stack traces and provenance come out as
they went in, and the cost is that of a graph copy.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from graphopt._torch import TrainingIRVerifier, ValueRanges, int_oo
from graphopt.errors import InternalError
from graphopt.ir.bodies import bodies, body

if TYPE_CHECKING:
    from graphopt.ir.program import Program

# `from_node` holds whole copies of earlier graphs' nodes, one more at each conversion, and
# torch.export.save writes them all out.  Provenance is kept in Program's own log instead.
_DROPPED_META = frozenset({"from_node"})

_LIFTED_ORDER = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


def to_exported_program(program: Program) -> ExportedProgram:
    """Wrap a program as an ExportedProgram in training IR.

    The inputs are positional and flat, in the order of ``program.signature.inputs``; the outputs are
    a tuple.  Tensors are shared with ``program``, not copied.

    Returns:
        An ExportedProgram whose ``module()(*inputs)`` equals ``program(*inputs)``, and on which
        ``run_decompositions()`` and ``torch.export.save`` work.

    Raises:
        InternalError: the program is not in canonical form: a ``get_attr`` node that holds no tensor,
            or a node without a fake value.
    """
    source = program.graph_module
    lifted = _lifted_tensors(source)
    graph, names = _lift(source.graph, lifted)

    input_specs = [
        InputSpec(
            kind=kind,
            arg=TensorArgument(name=names.placeholder_of[target]),
            target=target,
            persistent=(_is_persistent(source, target) if kind is InputKind.BUFFER else None),
        )
        for target, (kind, _) in lifted.items()
    ]
    input_specs += [
        InputSpec(kind=InputKind.USER_INPUT, arg=TensorArgument(name=name), target=None)
        for name in names.inputs
    ]
    output_specs = [
        OutputSpec(kind=OutputKind.USER_OUTPUT, arg=TensorArgument(name=name), target=None)
        for name in names.outputs
    ]

    # A non-persistent buffer is no part of a state dict; torch.export keeps it with the constants.
    state_dict: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    for target, (kind, tensor) in lifted.items():
        kept = kind is InputKind.PARAMETER or (kind is InputKind.BUFFER and _is_persistent(source, target))
        (state_dict if kept else constants)[target] = tensor

    root = torch.nn.Module()
    for name, module in bodies(source):
        if "." not in name:
            root.add_module(name, module)
    return ExportedProgram(
        root=root,
        graph=graph,
        graph_signature=ExportGraphSignature(input_specs, output_specs),
        state_dict=state_dict,
        range_constraints=_range_constraints(program, graph),
        module_call_graph=[_root_call(program)],
        constants=constants,
        verifiers=[TrainingIRVerifier],
    )


class _Names:
    """Node names that the signature refers to."""

    def __init__(self) -> None:
        self.placeholder_of: dict[str, str] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []


def _lifted_tensors(source: fx.GraphModule) -> dict[str, tuple[InputKind, torch.Tensor]]:
    """Each tensor attribute that the graph reads, with its kind: parameters, buffers, constants."""
    parameters = dict(source.named_parameters(remove_duplicate=False))
    buffers = dict(source.named_buffers(remove_duplicate=False))
    found: dict[str, tuple[InputKind, torch.Tensor]] = {}
    for node in source.graph.find_nodes(op="get_attr"):
        target = str(node.target)
        if target in found or body(source, node) is not None:
            continue
        if target in parameters:
            found[target] = (InputKind.PARAMETER, parameters[target])
        elif target in buffers:
            found[target] = (InputKind.BUFFER, buffers[target])
        else:
            found[target] = (InputKind.CONSTANT_TENSOR, _attribute(source, node))
    return dict(sorted(found.items(), key=lambda item: _LIFTED_ORDER.index(item[1][0])))


def _attribute(source: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    value: Any = source
    for atom in str(node.target).split("."):
        value = getattr(value, atom, None)
    if not isinstance(value, torch.Tensor):
        raise InternalError(f"get_attr {node.target!r} does not name a tensor", node=node.name)
    return value


def _is_persistent(source: fx.GraphModule, target: str) -> bool:
    owner, _, name = target.rpartition(".")
    return name not in source.get_submodule(owner)._non_persistent_buffers_set


def _lift(source: fx.Graph, lifted: Mapping[str, tuple[InputKind, torch.Tensor]]) -> tuple[fx.Graph, _Names]:
    """Copy the graph with a placeholder for each lifted tensor in front of the inputs."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    names = _Names()

    first_read: dict[str, fx.Node] = {}
    for node in source.find_nodes(op="get_attr"):
        if str(node.target) in lifted:
            first_read.setdefault(str(node.target), node)
    for target in lifted:
        reader = first_read[target]
        copied[reader] = placeholder = graph.placeholder(reader.name)
        _copy_identity(reader, placeholder)
        names.placeholder_of[target] = placeholder.name

    for node in source.nodes:
        if node in copied:
            continue
        if node.op == "get_attr" and str(node.target) in lifted:
            copied[node] = copied[first_read[str(node.target)]]
            continue
        copied[node] = graph.node_copy(node, copied.__getitem__)
        _copy_identity(node, copied[node])
        if node.op == "placeholder":
            names.inputs.append(copied[node].name)
        elif node.op == "output":
            results: Any = copied[node].args[0]
            names.outputs = [output.name for output in results]
    return graph, names


def _copy_identity(source: fx.Node, copy: fx.Node) -> None:
    """Give a copy its source's very name (fx renames what collides with Python) and metadata."""
    if source.op != "output" and "val" not in source.meta:
        raise InternalError("the node has no fake value", node=source.name)
    copy._rename(source.name)
    copy.meta = {key: value for key, value in source.meta.items() if key not in _DROPPED_META}


def _range_constraints(program: Program, graph: fx.Graph) -> dict[sympy.Symbol, ValueRanges]:
    """The range of each symbol in the shape of an input, or of a tensor whose size data decides."""
    ranges: dict[sympy.Symbol, ValueRanges] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.op == "output" or not isinstance(value, torch.Tensor):
            continue
        for size in value.shape:
            if not isinstance(size, torch.SymInt):
                continue
            for symbol in sorted(size.node.expr.free_symbols, key=str):
                known = size.node.shape_env.var_to_range.get(symbol)
                ranges[symbol] = known if known is not None else ValueRanges(0, int_oo)
    for symbol, name in program.symbols.items():
        declared = program.signature.dims.get(name)
        key = next((s for s in ranges if str(s) == str(symbol)), None)
        if declared is not None and key is not None:
            ranges[key] = ValueRanges(declared.min, int_oo if declared.max is None else declared.max)
    return ranges


def _root_call(program: Program) -> ModuleCallEntry:
    """The calling convention of the whole module: flat tensors in, a tuple of tensors out."""
    inputs, outputs = len(program.signature.inputs), len(program.signature.outputs)
    names = [spec.name for spec in program.signature.inputs]
    usable = len(set(names)) == len(names) and all(
        name.isidentifier() and not keyword.iskeyword(name) and name != "self" for name in names
    )
    return ModuleCallEntry(
        fqn="",
        signature=ModuleCallSignature(
            inputs=[],
            outputs=[],
            in_spec=pytree.tree_structure(((0,) * inputs, {})),
            out_spec=pytree.tree_structure((0,) * outputs),
            forward_arg_names=names if usable else None,
        ),
    )
