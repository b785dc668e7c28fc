"""What a converter sees of the ONNX node that it evaluates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx_ir as ir
import torch

from graphopt.errors import InputError
from graphopt.frontends.onnx.dtypes import torch_dtype
from graphopt.frontends.onnx.limits import DEEPEST_CONTROL_FLOW, HIGHEST_RANK
from graphopt.frontends.onnx.regions import Region
from graphopt.frontends.onnx.values import HostValue, Value

if TYPE_CHECKING:
    from graphopt.frontends.onnx.interpreter import Evaluator

# The class has methods of these names, for ``call.int("axis")``.
_Int: TypeAlias = int
_Float: TypeAlias = float
_Str: TypeAlias = str


class SizeError(InputError):
    """A size is not the one that a node needs; another example size may be.

    Attributes:
        size: what it is, an int or a symbolic one.
        wanted: what it has to be.
    """

    size: Any = None
    wanted: Any = None


class UnknownError(InputError):
    """A value would have to be known while importing."""


class Call:
    """One evaluation of one node: its attributes, outputs and subgraphs.

    Attributes:
        op_type, domain: of the operator.
        opset: version of the operator's domain in the model (or in the enclosing function).
        name: the node's name, or its first output's where it has none; prefixed by the names of the
            function calls around it.
        inputs: the values of its inputs, before they take the form that the converter wants.
        packed_output: set by a converter whose first output has an element type of 4 or 2 bits.
    """

    def __init__(
        self,
        node: ir.Node,
        name: _Str,
        opset: _Int,
        bound: Mapping[_Str, ir.Attr],
        evaluator: Evaluator,
        inputs: Sequence[Value] = (),
    ) -> None:
        self.node = node
        self.name = name
        self.op_type = node.op_type
        self.domain = node.domain
        self.opset = opset
        self._bound = bound
        self._evaluator = evaluator
        self.inputs = list(inputs)
        self._read: set[_Str] = set()
        self._arrays = 0
        self.packed_output: ir.DataType | None = None

    # -- attributes --------------------------------------------------------------------------

    def attribute(self, name: _Str) -> ir.Attr | None:
        """The attribute, resolved through the enclosing function's call where it is a reference."""
        self._read.add(name)
        attr = self.node.attributes.get(name)
        if attr is not None and attr.is_ref():
            return self._bound.get(str(attr.ref_attr_name))
        return attr

    def unread(self) -> list[_Str]:
        """Names of the node's attributes that nothing has asked for yet."""
        return [name for name in self.node.attributes if name not in self._read]

    def has(self, name: _Str) -> bool:
        return self.attribute(name) is not None

    def int(self, name: _Str, default: _Int | None = None) -> Any:
        return self._get(name, default)

    def float(self, name: _Str, default: _Float | None = None) -> Any:
        return self._get(name, default)

    def str(self, name: _Str, default: _Str | None = None) -> Any:
        return self._get(name, default)

    def ints(self, name: _Str, default: Sequence[_Int] | None = None) -> Any:
        value = self._get(name, default)
        return None if value is None else list(value)

    def floats(self, name: _Str, default: Sequence[_Float] | None = None) -> Any:
        value = self._get(name, default)
        return None if value is None else list(value)

    def strings(self, name: _Str) -> list[_Str]:
        """A list of strings; empty where the node has none."""
        return [str(v) for v in self._get(name, [])]

    def flag(self, name: _Str, default: bool = False) -> bool:
        return bool(self._get(name, int(default)))

    def tensor(self, name: _Str) -> ir.TensorProtocol | None:
        attr = self.attribute(name)
        return None if attr is None else attr.as_tensor()

    def graph(self, name: _Str) -> ir.Graph:
        attr = self.attribute(name)
        if attr is None:
            raise self.error(f"has no attribute {name!r}")
        return attr.as_graph()

    def dtype(self, name: _Str, default: torch.dtype | None = None) -> torch.dtype | None:
        """An attribute that holds an ONNX element type (``to`` of Cast)."""
        value = self._get(name, None)
        if value is None or value == 0:
            return default
        return torch_dtype(value, f"attribute {name!r} of {self.name!r}")

    def element_type(self, name: _Str) -> ir.DataType | None:
        """An attribute that holds an ONNX element type, as it stands in the file."""
        value = self._get(name, None)
        return None if not value else ir.DataType(value)

    def _get(self, name: _Str, default: Any) -> Any:
        attr = self.attribute(name)
        return default if attr is None else attr.value

    # -- inputs --------------------------------------------------------------------------------

    def tensor_of(self, index: _Int) -> torch.Tensor:
        """Input ``index`` as a tensor, also where the converter was given a number."""
        source = self.node.inputs[index]
        name = str(source.name) if source is not None else f"input {index}"
        return self.as_tensor(self.inputs[index], name)

    def as_tensor(self, value: Value, name: _Str = "value") -> torch.Tensor:
        """The tensor form of a value."""
        return self._evaluator.as_tensor(value, name)

    def packed_type(self, index: _Int) -> ir.DataType | None:
        """The element type of input ``index`` if it is one of 4 or 2 bits, which its tensor only carries."""
        source = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if source is None else self._evaluator.packed.of(source)

    def host(self, index: _Int) -> HostValue | None:
        """Input ``index`` as far as it is known while importing, else None."""
        source = self.node.inputs[index]
        return None if source is None else self._evaluator.demand_host(source, self.inputs[index])

    def array(self, data: np.ndarray) -> torch.Tensor:
        """A tensor of data that the converter computed; a buffer of the program unless it is one number."""
        self._arrays += 1
        return self.as_tensor(HostValue.from_numpy(data), f"{self.name}_{self._arrays}")

    # -- outputs and subgraphs ---------------------------------------------------------------

    @property
    def output_count(self) -> _Int:
        return len(self.node.outputs)

    def wants(self, index: _Int) -> bool:
        """Whether the node names its output ``index``."""
        return index < len(self.node.outputs) and bool(self.node.outputs[index].name)

    def run(self, graph: ir.Graph, inputs: Sequence[Value] = ()) -> list[Value]:
        """Evaluates a subgraph; it sees the values around this node."""
        return self._evaluator.run_subgraph(self, graph, inputs)

    def region(self, graphs: Sequence[ir.Graph]) -> Region:
        """The node's subgraphs as bodies of a higher-order operator."""
        if self._evaluator.module.depth >= DEEPEST_CONTROL_FLOW:
            raise self.error(
                f"stands in {DEEPEST_CONTROL_FLOW} others that data decides; no more are imported"
            )
        return Region(self._evaluator, graphs)

    def check_rank(self, rank: _Int) -> None:
        """Raises if a result would have more axes than anything supports."""
        if rank > HIGHEST_RANK:
            raise self.error(f"makes a tensor of {rank} axes; at most {HIGHEST_RANK} are supported")

    # -- errors ------------------------------------------------------------------------------

    def error(self, what: _Str, hint: _Str | None = None) -> InputError:
        """An error about this node: ``raise call.error("has no kernel shape")``."""
        return InputError(
            f"{self._title()} {what}", code="GO-3006", node=self.name, layer=self.name, hint=hint
        )

    def _title(self) -> _Str:
        domain = f"{self.domain}." if self.domain else ""
        return f"{domain}{self.op_type} (opset {self.opset})"

    def unknown(self, index: _Int, why: _Str = "") -> UnknownError:
        """An error for an input that has to be known while importing and is not."""
        source = self.node.inputs[index]
        name = str(source.name) if source is not None else f"input {index}"
        return UnknownError(
            f"{self._title()} needs its input {index} ({name!r}) to be known while importing, but the model "
            f"computes it from data{'; ' if why else ''}{why}",
            code="GO-3006",
            node=self.name,
            layer=self.name,
            hint=f"if {name!r} is an input of the model, fix it: constants={{{name!r}: array}}",
        )

    def size_error(self, what: _Str, size: Any, wanted: Any) -> SizeError:
        """An error for a size that does not fit: the importer then looks for sizes that do."""
        plain = self.error(f"{what}, whose size is {size}")
        error = SizeError(plain.message, code=plain.code, node=plain.node, layer=plain.layer)
        error.size, error.wanted = size, wanted
        return error
