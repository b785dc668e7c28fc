"""What a converter sees of the ONNX node that it evaluates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx_ir as ir
import torch

from graphopt.errors import InputError
from graphopt.frontends.onnx.dtypes import torch_dtype

if TYPE_CHECKING:
    from graphopt.frontends.onnx.interpreter import Evaluator
    from graphopt.frontends.onnx.values import Value

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


class Call:
    """One evaluation of one node: its attributes, outputs and subgraphs.

    Attributes:
        op_type, domain: of the operator.
        opset: version of the operator's domain in the model (or in the enclosing function).
        name: the node's name, or its first output's where it has none; prefixed by the names of the
            function calls around it.
    """

    def __init__(
        self,
        node: ir.Node,
        name: _Str,
        opset: _Int,
        bound: Mapping[_Str, ir.Attr],
        evaluator: Evaluator,
    ) -> None:
        self.node = node
        self.name = name
        self.op_type = node.op_type
        self.domain = node.domain
        self.opset = opset
        self._bound = bound
        self._evaluator = evaluator

    # -- attributes --------------------------------------------------------------------------

    def attribute(self, name: _Str) -> ir.Attr | None:
        """The attribute, resolved through the enclosing function's call where it is a reference."""
        attr = self.node.attributes.get(name)
        if attr is not None and attr.is_ref():
            return self._bound.get(str(attr.ref_attr_name))
        return attr

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

    def _get(self, name: _Str, default: Any) -> Any:
        attr = self.attribute(name)
        return default if attr is None else attr.value

    def input_dtype(self, index: _Int) -> torch.dtype:
        """Element type of an input, also where the converter sees it as a plain number."""
        value = self.node.inputs[index]
        given = None if value is None else self._evaluator.lookup(value)
        dtype = getattr(given, "dtype", None)
        if dtype is None:
            raise self.error(f"needs a tensor as its input {index}")
        return dtype

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

    # -- errors ------------------------------------------------------------------------------

    def error(self, what: _Str, hint: _Str | None = None) -> InputError:
        """An error about this node: ``raise call.error("has no kernel shape")``."""
        domain = f"{self.domain}." if self.domain else ""
        return InputError(
            f"{domain}{self.op_type} (opset {self.opset}) {what}",
            code="GO-3006",
            node=self.name,
            layer=self.name,
            hint=hint,
        )

    def size_error(self, what: _Str, size: Any, wanted: Any) -> SizeError:
        """An error for a size that does not fit: the importer then looks for sizes that do."""
        plain = self.error(f"{what}, whose size is {size}")
        error = SizeError(plain.message, code=plain.code, node=plain.node, layer=plain.layer)
        error.size, error.wanted = size, wanted
        return error
