"""An ``nn.Module`` that evaluates an ONNX graph with torch functions.

``torch.export`` traces its ``forward``; each node's converter runs once a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.fx import traceback as fx_traceback

from graphopt._torch import FakeTensorMode, unset_fake_temporarily
from graphopt.errors import GraphoptError, InputError
from graphopt.frontends.onnx.boundary import (
    BoundaryInput,
    boundary_input,
    boundary_output,
    carried_note,
    input_notes,
)
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.constants import ConstantStore
from graphopt.frontends.onnx.dims import InputShape
from graphopt.frontends.onnx.functions import Definitions
from graphopt.frontends.onnx.limits import MOST_NODES, TooLarge
from graphopt.frontends.onnx.packed_types import PackedTypes
from graphopt.frontends.onnx.registry import CONVERTERS, HOST_OPS, InputKind, normal_domain
from graphopt.frontends.onnx.unread import refuse_unread
from graphopt.frontends.onnx.values import Constant, HostValue, Value, is_symbolic
from graphopt.onnx_metadata import annotation

Fetch = Callable[[str], torch.Tensor]
"""From a weight's dotted name to the weight."""

_HOST_LIMIT = 256
"""Largest constant that shape arithmetic reads without being asked to."""

_NUMBERS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
"""The attributes of Constant that are numbers, with their types."""


class OnnxModule(nn.Module):
    """The model as a module: its constants, and a forward that evaluates its graph.

    Args:
        model: a checked model.
        definitions: function bodies of its operators.
        bound: graph inputs that are fixed to a value, by name; None for an optional without an element.
        shapes: the shapes of the elements of inputs that are sequences.

    Attributes:
        graph_inputs: the tensors that ``forward`` takes.
        output_names: names of the tensors that it returns; known after its first evaluation.
        depth: branches and loops that data decides around the node that is evaluated.
        notes: inputs and outputs that are not as the file has them.
    """

    def __init__(
        self,
        model: ir.Model,
        definitions: Definitions,
        bound: Mapping[str, np.ndarray | None] | None = None,
        shapes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        bound = bound or {}
        # Before any constant: a tensor that is called like one of these gets another name.
        self.output_names: list[str] = []
        self.notes: list[str] = []
        self.on_node: Callable[[str], None] | None = None
        self.fake_mode: FakeTensorMode | None = None
        self._shared_axes: list[list[tuple[int, int]]] = []
        self._nodes_run = 0
        self.depth = 0
        self._fetch: Fetch = self._attribute
        self.graph_inputs: list[ir.Value] = []
        self._inputs: list[BoundaryInput] = []
        self._absent: list[ir.Value] = []
        self.store = ConstantStore(self, _statistics(model))
        self._model = model
        self._definitions = definitions
        self._constants: dict[Any, Constant] = {}
        self._folded: dict[str, str] = {}
        graph = model.graph
        for value in graph.initializers.values():
            assert value.const_value is not None
            self._constants[value] = self.store.add(str(value.name), value.const_value)
        for value in graph.inputs:
            name = str(value.name)
            fixed = bound.get(name)
            if fixed is not None:
                self._constants[value] = self.store.add(name, ir.tensor(fixed))
        self._absent = [v for v in graph.inputs if bound.get(str(v.name), 0) is None]
        self._inputs = [
            boundary_input(v, shapes or {})
            for v in graph.inputs
            if v not in self._constants and v not in self._absent
        ]
        self.graph_inputs = [tensor for item in self._inputs for tensor in item.tensors]

    def share_axes(self, shapes: Sequence[InputShape]) -> None:
        """Declares which axes of the inputs have one size: those that ``shapes`` names alike."""
        axes: dict[str, list[tuple[int, int]]] = {}
        for index, spec in enumerate(shapes):
            for axis, size in enumerate(spec.shape):
                if isinstance(size, str):
                    axes.setdefault(size, []).append((index, axis))
        self._shared_axes = [places for places in axes.values() if len(places) > 1]

    def count_node(self, call: Call) -> None:
        """Refuses to go on for ever: functions and loops multiply the nodes of a small file."""
        # Outputs count too: a single Split may have any number.
        self._nodes_run += max(1, call.output_count)
        if self._nodes_run > MOST_NODES:
            raise call.error(
                f"comes after {MOST_NODES} other nodes, with unrolled loops; no more are imported"
            )

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self._nodes_run = 0
        for (first, first_axis), *rest in self._shared_axes:
            for index, axis in rest:
                torch._check(inputs[first].shape[first_axis] == inputs[index].shape[axis])
        if self.on_node is not None:
            self.on_node("inputs")
        evaluator = Evaluator(self, self._model.opset_imports, {}, "")
        remaining = iter(inputs)
        for item in self._inputs:
            evaluator.values[item.value] = item.bind([next(remaining) for _ in item.tensors])
        for value in self._absent:
            evaluator.values[value] = None
        results = evaluator.run_graph(self._model.graph)
        outputs: list[torch.Tensor] = []
        self.output_names, self.notes = [], input_notes(self._inputs)
        for value, result in zip(self._model.graph.outputs, results, strict=True):
            for name, element in boundary_output(value, result).items():
                tensor = evaluator.as_tensor(element, name)
                # A weight that is returned as it is: a program's outputs are computed nodes.
                outputs.append(tensor if isinstance(element, torch.Tensor) else tensor.clone())
                self.output_names.append(name)
            if isinstance(result, list):
                parts = ", ".join(repr(n) for n in self.output_names[-len(result) :])
                self.notes.append(f"output {value.name!r} is a sequence; its elements are {parts}")
            packed = evaluator.packed.of(value)
            if packed is not None:
                self.notes.append(carried_note("output", str(value.name), packed))
        return tuple(outputs)

    def constant(self, key: Any, name: str, tensor: ir.TensorProtocol) -> Constant:
        """The constant of a Constant node or subgraph initialiser, registered at its first evaluation."""
        if key not in self._constants:
            with unset_fake_temporarily():
                self._constants[key] = self.store.add(name, tensor, from_node=True)
        return self._constants[key]

    def initializer(self, value: ir.Value) -> Constant | None:
        if value not in self._constants and value.const_value is not None and value.is_initializer():
            with unset_fake_temporarily():
                self._constants[value] = self.store.add(str(value.name), value.const_value)
        return self._constants.get(value)

    def fetch(self, target: str) -> torch.Tensor:
        """The tensor of a dotted attribute name, as tracing sees it."""
        return self._fetch(target)

    @contextmanager
    def weights_by(self, source: Callable[[str, Fetch], torch.Tensor]) -> Iterator[None]:
        """In it, ``source(target, outer)`` gives the weights, as bodies of control flow need it."""
        outer = self._fetch
        self._fetch = lambda target: source(target, outer)
        self.depth += 1
        try:
            yield
        finally:
            self._fetch = outer
            self.depth -= 1

    def _attribute(self, target: str) -> torch.Tensor:
        owner: Any = self
        for part in target.split("."):
            owner = getattr(owner, part)
        return owner if self.fake_mode is None else self.fake_mode.from_tensor(owner, static_shapes=True)

    def folded(self, name: str, value: HostValue) -> torch.Tensor:
        """A buffer for an array that importing computed."""
        if name not in self._folded:
            with unset_fake_temporarily():
                data = torch.from_numpy(np.array(value.array)).to(value.dtype)
                self._folded[name] = self.store.add_buffer(name, data)
        return self.fetch(self._folded[name])


class Evaluator:
    """One scope of evaluation: a graph with its subgraphs, or the body of a function.

    onnx-ir gives every value one object, in subgraphs too, so one table serves all of them.
    """

    def __init__(
        self,
        module: OnnxModule,
        opsets: Mapping[str, int],
        bound: Mapping[str, ir.Attr],
        prefix: str,
    ) -> None:
        self.module = module
        self.opsets = {normal_domain(d): v for d, v in opsets.items()}
        self.bound = bound
        self.prefix = prefix
        self.values: dict[ir.Value, Value] = {}
        self.packed = PackedTypes()

    # -- graphs ------------------------------------------------------------------------------

    def run_graph(self, graph: ir.Graph | ir.Function) -> list[Value]:
        for node in graph:
            self.run_node(node)
        return [self.lookup(v) for v in graph.outputs]

    def run_subgraph(self, call: Call, graph: ir.Graph, inputs: Sequence[Value]) -> list[Value]:
        if len(inputs) != len(graph.inputs):
            raise call.error(f"passes {len(inputs)} values to a body of {len(graph.inputs)} inputs")
        self.module.count_node(call)
        for value, given in zip(graph.inputs, inputs, strict=True):
            self.values[value] = given
        return self.run_graph(graph)

    @contextmanager
    def rebound(self, values: Mapping[ir.Value, Value]) -> Iterator[None]:
        """In it, these values are others; what is evaluated in it is forgotten."""
        saved = dict(self.values)
        self.values.update(values)
        try:
            yield
        finally:
            self.values.clear()
            self.values.update(saved)

    def lookup(self, value: ir.Value | None) -> Value:
        if value is None or value.name == "":
            return None
        if value not in self.values:
            constant = self.module.initializer(value)
            if constant is None:
                raise InputError(f"value {value.name!r} is used before anything computes it", code="GO-3003")
            self.values[value] = constant
        return self.values[value]

    # -- nodes -------------------------------------------------------------------------------

    def run_node(self, node: ir.Node) -> None:
        name = self.prefix + (node.name or (node.outputs[0].name if node.outputs else "") or node.op_type)
        opset = self.opsets.get(normal_domain(node.domain), 1)
        inputs = [self.lookup(v) for v in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        call = Call(node, name, opset, self.bound, self, inputs)
        self.module.count_node(call)
        with fx_traceback.annotate(annotation(node, name)):
            try:
                result = self._evaluate(call, inputs)
            except GraphoptError:
                raise
            except Exception as error:  # torch rejects the node's operands in many ways
                shapes = ", ".join(_describe(v) for v in inputs)
                raise InputError(
                    f"{node.op_type} (opset {opset}) cannot be evaluated on ({shapes}): {_first_line(error)}",
                    code="GO-3006",
                    node=name,
                    layer=name,
                ) from error
        results = result if isinstance(result, tuple) else (result,)
        for value, item in zip(node.outputs, results, strict=False):
            self.values[value] = item
        self.packed.pass_on(call)
        if self.module.on_node is not None:
            self.module.on_node(name)

    def _evaluate(self, call: Call, inputs: list[Value]) -> Any:
        node = call.node
        if node.op_type == "Constant" and normal_domain(node.domain) == "":
            return self._constant(call)
        converter = CONVERTERS.find(node.domain, node.op_type, call.opset)
        hosted = self._evaluate_on_host(call, inputs)
        if hosted is not None:
            refuse_unread(call, converter)
            return hosted
        if converter is not None:
            arguments = [self._as_kind(call, i, v, converter.kind(i)) for i, v in enumerate(inputs)]
            result = converter.function(call, *arguments)
            refuse_unread(call, converter)
            return result
        return self._run_function(call, inputs)

    def _constant(self, call: Call) -> Constant:
        value = call.node.outputs[0]
        tensor = call.tensor("value")
        if tensor is None:
            # The name is that of the node's attribute, not of the function's that it may refer to.
            name, attr = next(((a, v) for a in call.node.attributes if (v := call.attribute(a))), ("", None))
            if attr is None or name not in _NUMBERS:
                raise call.error("has no value that is a tensor or a number")
            tensor = ir.tensor(np.array(attr.value, dtype=_NUMBERS[name]))
        # In a function called twice with different attributes, one node stands for two constants.
        key = (value, self.prefix) if self.prefix else value
        return self.module.constant(key, self.prefix + str(value.name), tensor)

    def _run_function(self, call: Call, inputs: list[Value]) -> tuple[Value, ...]:
        function = self.module._definitions.body(call, inputs)
        attributes = {k: v for k in call.node.attributes if (v := call.attribute(k)) is not None}
        for name, default in function.attributes.items():
            if name not in attributes and not default.is_ref() and default.value is not None:
                attributes[name] = default
        opsets = {**self.opsets, **{normal_domain(d): v for d, v in function.opset_imports.items()}}
        scope = Evaluator(self.module, opsets, attributes, f"{call.name}/")
        for index, value in enumerate(function.inputs):
            scope.values[value] = inputs[index] if index < len(inputs) else None
            packed = call.packed_type(index)
            if packed is not None:
                scope.packed.set(value, packed)
        results = tuple(scope.run_graph(function))
        if function.outputs:
            call.packed_output = scope.packed.of(function.outputs[0])
        return results

    # -- shape arithmetic --------------------------------------------------------------------

    def _evaluate_on_host(self, call: Call, inputs: list[Value]) -> Any:
        host_op = HOST_OPS.find(call.domain, call.op_type, call.opset)
        if host_op is None:
            return None
        weights = [v for v in inputs if isinstance(v, Constant)]
        if any(w.size > _HOST_LIMIT or (w.trainable and w.size > 1) for w in weights):
            return None
        hosts = [v.host() if isinstance(v, Constant) else v for v in inputs]
        given = [h for h, v in zip(hosts, inputs, strict=True) if v is not None]
        if not all(isinstance(h, HostValue) for h in given):
            return None
        try:
            result = host_op.function(call, *hosts)
        except TooLarge:
            return None
        too_big = isinstance(result, HostValue) and result.size > _HOST_LIMIT
        return None if too_big else result

    def demand_host(self, value: ir.Value, given: Value) -> HostValue | None:
        """The host form of a value, evaluated from its producers if it was traced as a tensor.

        Float constants are traced, since they may be weights; when their result turns out to be the
        scales of a Resize, it is evaluated here.
        """
        if isinstance(given, HostValue):
            return given
        if isinstance(given, Constant):
            return given.host()
        node = value.producer()
        if node is None or not isinstance(given, torch.Tensor):
            return None
        host_op = HOST_OPS.find(node.domain, node.op_type, self.opsets.get(normal_domain(node.domain), 1))
        if host_op is None:
            return None
        hosts: list[HostValue | None] = []
        for item in node.inputs:
            source = None if item is None else self.demand_host(item, self.lookup(item))
            if item is not None and source is None:
                return None
            hosts.append(source)
        call = Call(node, str(node.name), self.opsets.get(normal_domain(node.domain), 1), self.bound, self)
        try:
            result = host_op.function(call, *hosts)
        except TooLarge:
            return None
        return result[value.index() or 0] if isinstance(result, tuple) else result

    # -- forms of inputs ---------------------------------------------------------------------

    def _as_kind(self, call: Call, index: int, value: Value, kind: InputKind) -> Any:
        if value is None or kind is InputKind.VALUE or isinstance(value, list):
            return value
        source = call.node.inputs[index]
        name = str(source.name) if source is not None else f"input {index}"
        if kind is InputKind.HOST:
            assert source is not None
            host = self.demand_host(source, value)
            if host is None:
                raise call.unknown(index)
            return host
        scalar = kind is InputKind.OPERAND or kind is InputKind.INDEX and getattr(value, "ndim", 0) == 0
        if scalar and not isinstance(value, torch.Tensor):
            number = self._scalar(call, index, value)
            if number is not None:
                return number
        return self.as_tensor(value, name)

    def _scalar(self, call: Call, index: int, value: HostValue | Constant) -> Any:
        """The value as a scalar operand, where that leaves shape and dtype of the result alone."""
        if value.size != 1 or (isinstance(value, Constant) and not value.literal):
            return None
        partners = [self.lookup(v) for i, v in enumerate(call.node.inputs) if i != index]
        if not any(isinstance(p, torch.Tensor) and p.ndim >= value.ndim for p in partners):
            return None
        host = value.host() if isinstance(value, Constant) else value
        return None if host is None else host.number()

    def as_tensor(self, value: Value, name: str) -> torch.Tensor:
        """The tensor form of a value."""
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, Constant):
            return self.module.fetch(value.target)
        if not isinstance(value, HostValue):
            raise InputError(f"{name!r} is a sequence or optional where a tensor is needed", code="GO-3006")
        if value.size == 1:
            return torch.full(value.shape, value.number(), dtype=value.dtype)
        if not value.symbolic:
            return self.module.folded(self.prefix + name, value)
        entries = [torch.full((), n, dtype=value.dtype) for n in value.numbers()]
        return torch.stack(entries).reshape(value.shape)


def _statistics(model: ir.Model) -> set[str]:
    """Names of running means and variances: torch wants them without gradients."""
    return {
        str(v.name)
        for node in model.graph.all_nodes()
        if node.op_type == "BatchNormalization"
        for v in node.inputs[3:5]
        if v is not None
    }


def _describe(value: Value) -> str:
    if value is None:
        return "absent"
    if isinstance(value, list):
        return f"sequence of {len(value)}"
    if isinstance(value, HostValue):
        numbers = ", ".join(str(n) for n in value.numbers()[:8])
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)} = [{numbers}]"
    return (
        f"{str(value.dtype).removeprefix('torch.')}{[str(s) if is_symbolic(s) else s for s in value.shape]}"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
