"""From torch.onnx's model to the one that is written: optimised, with the program's own names."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript import optimizer
from onnxscript.rewriter import onnx_fusions

from graphopt.errors import InputError, InternalError
from graphopt.exporters.onnx.carry import carry
from graphopt.exporters.onnx.doubles import exact_numbers
from graphopt.exporters.onnx.inference import infer_types
from graphopt.exporters.onnx.legalize import origin_of
from graphopt.exporters.onnx.opsets import convert
from graphopt.ir.signature import TensorSpec
from graphopt.onnx_metadata import write_metadata

if TYPE_CHECKING:
    from graphopt.ir.program import Program

_TORCH_METADATA = "pkg.torch."


def finish(model: ir.Model, program: Program, opset: int) -> ir.Model:
    """Optimise ``model`` and give it the names, dimensions and origins of ``program``."""
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        _note_origin(node)
    infer_types(model, opset)
    exact_numbers(model)
    convert(model, opset)
    optimize(model, opset)
    _name_interface(model, program)
    _name_dimensions(model, program.symbols)
    _drop_torch_metadata(model)
    _name_nodes(model)
    write_metadata(model, program.metadata)
    model.producer_name = "graphopt"
    model.producer_version = importlib.metadata.version("graphopt")
    model.graph.name = "graphopt"
    return model


def optimize(model: ir.Model, opset: int) -> None:
    """Constant folding, rewrites and fusions, types with kernels, common subexpressions, dead code."""
    optimizer.optimize_ir(model)
    if not any(value.dtype == ir.DataType.DOUBLE for value in _values(model.graph)):
        onnx_fusions.fuse(model)  # nodes with float32 attributes, for constants that are nearly those
    carry(model, opset)
    ir.passes.Sequential(
        common_passes.RemoveUnusedNodesPass(),
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common_passes.DeduplicateInitializersPass(),
        common_passes.CommonSubexpressionEliminationPass(),
        common_passes.RemoveUnusedOpsetsPass(),
    )(model)


def _note_origin(node: ir.Node) -> None:
    """Turn torch.onnx's metadata of a node into graphopt's."""
    fx_node = node.meta.get("node")
    node.metadata_props.clear()
    if fx_node is None:
        return
    layers, made_by, _ = origin_of(fx_node)
    if layers:
        node.metadata_props["graphopt.layers"] = ", ".join(layers)
    if made_by:
        node.metadata_props["graphopt.made_by"] = ", ".join(made_by)


def _name_interface(model: ir.Model, program: Program) -> None:
    """Names, shapes and dtypes of inputs and outputs as the signature has them."""
    graph = model.graph
    signature = program.signature
    _give_each_output_a_value(graph)
    wanted = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    ends = {*graph.inputs, *graph.outputs}
    taken = {value.name for value in _values(graph)} | wanted
    for value in _values(graph):
        if value not in ends and value.name in wanted:
            fresh = next(n for i in range(1, len(taken) + 2) if (n := f"{value.name}_{i}") not in taken)
            taken.add(fresh)
            _rename(graph, value, fresh)
    for ends_of, specs in ((graph.inputs, signature.inputs), (graph.outputs, signature.outputs)):
        for value, spec in zip(ends_of, specs, strict=True):
            _describe(value, spec)


def _describe(value: ir.Value, spec: TensorSpec) -> None:
    if spec.dtype.is_complex:
        raise InputError(
            f"{spec.name!r} is complex, and operators of ONNX take no complex numbers", code="GO-3006"
        )
    expected = ir.tensor_adapters.from_torch_dtype(spec.dtype)
    if value.dtype is not None and value.dtype != expected:
        raise InternalError(
            f"{spec.name!r} became {value.dtype.name} on its way to ONNX and must be {expected.name}",
            code="GO-1001",
        )
    value.name = spec.name
    value.shape = ir.Shape(spec.shape)


def _give_each_output_a_value(graph: ir.Graph) -> None:
    """An input, a weight or another output cannot also be an output under a name of its own."""
    seen: set[ir.Value] = set()
    for i, value in enumerate(list(graph.outputs)):
        if value.producer() is None or value in seen:
            copy = ir.node("Identity", [value])
            copy.outputs[0].type = value.type
            copy.outputs[0].name = f"output_{i}"
            graph.append(copy)
            graph.outputs[i] = copy.outputs[0]
        seen.add(value)


def _values(graph: ir.Graph) -> list[ir.Value]:
    values = [*graph.inputs, *graph.initializers.values()]
    for node in ir.traversal.RecursiveGraphIterator(graph):
        values.extend(node.outputs)
    return values


def _rename(graph: ir.Graph, value: ir.Value, name: str) -> None:
    old = value.name
    if old is not None and graph.initializers.get(old) is value:
        del graph.initializers[old]
        value.name = name
        graph.initializers[name] = value
    else:
        value.name = name


def _name_dimensions(model: ir.Model, symbols: Mapping[str, str]) -> None:
    """Dimension names for torch's symbols, in every shape of the graph."""
    if not symbols:
        return
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, symbols)) + r")\b")

    def renamed(dim: Any) -> Any:
        text = dim.value if isinstance(dim, ir.SymbolicDim) else None
        return pattern.sub(lambda m: symbols[m[1]], text) if isinstance(text, str) else dim

    ends = {*model.graph.inputs, *model.graph.outputs}
    for value in _values(model.graph):
        if value.shape is not None and value not in ends:
            value.shape = ir.Shape([renamed(dim) for dim in value.shape])


def _name_nodes(model: ir.Model) -> None:
    """The name of the user's layer, where a node comes from one; of several nodes, with their operators."""
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    layers = [node.metadata_props.get("graphopt.layers", "") for node in nodes]
    alone = Counter(layers)
    taken: set[str] = set()
    for node, layer in zip(nodes, layers, strict=True):
        base = node.name or node.op_type
        if layer and ", " not in layer:
            base = layer if alone[layer] == 1 else f"{layer}/{node.op_type}"
        name = base
        for count in itertools.count(1):
            if name not in taken:
                break
            name = f"{base}_{count}"
        taken.add(name)
        node.name = name


def _drop_torch_metadata(model: ir.Model) -> None:
    """torch.onnx stores its whole signature and stack traces with paths of the exporting machine."""
    holders: list[Any] = [model, model.graph, *_values(model.graph)]
    for holder in holders:
        for key in [k for k in holder.metadata_props if k.startswith(_TORCH_METADATA)]:
            del holder.metadata_props[key]
