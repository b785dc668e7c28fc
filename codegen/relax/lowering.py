"""Program -> Relax: walks the graph and applies the converter table."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import tvm
from torch import fx
from tvm import relax, tirx

from graphopt.codegen.relax import channels_last
from graphopt.codegen.relax.context import Context, Declined, Expr, Unsupported, constant_expr
from graphopt.codegen.relax.control_flow import convert_control_flow
from graphopt.codegen.relax.decompose import decompose_node
from graphopt.codegen.relax.dtypes import tvm_dtype
from graphopt.codegen.relax.machine import Machine
from graphopt.codegen.relax.registry import Converter, complex_table, converter_table
from graphopt.codegen.relax.symbols import SymbolTable, UnboundSymbol
from graphopt.codegen.targets import Target
from graphopt.errors import InputError, InternalError
from graphopt.ir.bodies import CONTROL_FLOW, body
from graphopt.ir.program import Program
from graphopt.ir.provenance import origin
from graphopt.ir.signature import Signature


@dataclass(frozen=True)
class LoweredModule:
    """A program in Relax.

    Attributes:
        mod: ``main`` takes the program's inputs (symbolic sizes are TIR variables named as the
            signature names them), holds the weights as constants and returns a tuple.  Everything
            else in it is kernels.
        signature: the program's.
    """

    mod: tvm.IRModule
    signature: Signature


def lower(program: Program, target: Target | None = None, *, fast_algorithms: bool = True) -> LoweredModule:
    """Lowers a program to Relax.

    For CPUs, weights are packed for the target's vectors; images have their channels last on all targets.

    Args:
        target: what the code is for; None: nothing is arranged for any.
        fast_algorithms: use Winograd's and Strassen's methods where they pay.

    Every result is checked against the node's fake tensor: dtype exactly, shape by proof.

    Raises:
        InputError: operators, dtypes or uses that cannot be compiled; all of them are listed.
        InternalError: a converter produced another shape or dtype than the program says.
    """
    return Lowering(program, Machine.of(target, fast_algorithms=fast_algorithms)).run()


@dataclass(frozen=True)
class _Problem:
    operator: str
    reason: str
    node: str
    layer: str | None


class Lowering:
    """The lowering of one function: ``main``, or the body of a branch or loop.

    Attributes:
        builder: receives functions and bindings.
        symbols: the program's symbolic sizes, as variables of this function.
        machine: what the code is for.
        env: what each node became; images may be held with their channels last.
        layer: the user's layer that branches or loops here, for nodes of the body that have none.
    """

    def __init__(self, program: Program, machine: Machine) -> None:
        self.program = program
        self.machine = machine
        self.builder = relax.BlockBuilder()
        self.symbols = SymbolTable(program.symbols)
        self.env: dict[fx.Node, Any] = {}
        self.plain: dict[fx.Node, Any] = {}
        self.layer: str | None = None
        self.problems: list[_Problem] = []
        self.table = converter_table()
        self.complex_table = complex_table()

    def run(self) -> LoweredModule:
        parameters = [self._parameter(n) for n in self.program.input_nodes]
        with self.builder.function("main", parameters, attrs=self.bounds()):
            with self.builder.dataflow():
                self.walk(self.program.graph_module)
                results = [self.result(n) for n in self.program.output_nodes]
                output = self.builder.emit_output(relax.Tuple(results))
            self.builder.emit_func_output(output)
        self._report()
        return LoweredModule(self.builder.get(), self.program.signature)

    def nested(self) -> Lowering:
        """The lowering of another function of the same module, which has no values so far."""
        other = copy.copy(self)
        other.symbols = self.symbols.renewed()
        other.env, other.plain = {}, {}
        return other

    # -- inputs ----------------------------------------------------------------------------------

    def _parameter(self, node: fx.Node) -> relax.Var:
        value = node.meta["val"]
        for size in value.shape:
            if isinstance(size, torch.SymInt):
                factor, symbol = size.node.expr.as_coeff_Mul()
                if symbol.is_symbol:
                    self.symbols.define(symbol, size.node.hint, int(factor))
        spec = self.program.signature.inputs[len(self.env)]
        try:
            var = relax.Var(
                spec.name, relax.TensorType(self.symbols.shape(value.shape), tvm_dtype(value.dtype))
            )
        except UnboundSymbol as error:
            raise InputError(
                f"an axis of input {spec.name!r} is an expression of {error.symbol}, which is no axis itself",
                code="GO-3006",
                node=node.name,
                hint="capture with plain dynamic dimensions",
            ) from None
        self.env[node] = var
        return var

    def result(self, node: fx.Node) -> Expr:
        """A value that leaves the function."""
        if node.meta["val"].is_complex():
            self._problem(node, str(node.target), "a complex result")
        return self.operand(node)

    def bounds(self) -> dict[str, Any]:
        """Ranges of the symbolic sizes, which TVM's memory planner and simplifier read."""
        dims = self.program.signature.dims
        lower, upper = {}, {}
        for symbol, var in self.symbols.variables.items():
            name = self.program.symbols.get(symbol, symbol)
            low = dims[name].min if name in dims else 1
            high = dims[name].max if name in dims else None
            lower[var.name] = tirx.IntImm("int64", low)
            if high is not None:
                upper[var.name] = tirx.IntImm("int64", high)
            self.symbols.bound(var, low, high)
        attrs: dict[str, Any] = {}
        if lower:
            attrs["tir_var_lower_bound"] = lower
        if upper:
            attrs["tir_var_upper_bound"] = upper
        return attrs

    # -- nodes -----------------------------------------------------------------------------------

    def walk(self, module: fx.GraphModule, blame: fx.Node | None = None) -> None:
        """Converts the nodes of ``module``; ``blame`` is the node that it was decomposed from."""
        for node in module.graph.nodes:
            if node.op == "get_attr":
                if body(module, node) is None:
                    self.env[node] = constant_expr(_attribute(module, str(node.target)))
            elif node.op == "call_function" and _holds_tensor(node.meta["val"]):
                self._call(node, blame or node)
            elif node.op == "call_function" and node.target is torch.ops.aten._local_scalar_dense.default:
                self._problem(blame or node, str(node.target), "a size or value depends on data")

    def _call(self, node: fx.Node, blame: fx.Node) -> None:
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node) and isinstance(index, int)
            self.env[node] = self.env[source][index]
            return
        try:
            if node.target in CONTROL_FLOW:
                outside, self.layer = self.layer, origin(node).layer or self.layer
                try:
                    results = convert_control_flow(self, node)
                finally:
                    self.layer = outside
                context = self.context(node, (), node.meta["val"])
                self.env[node] = tuple(self._checked(node, i, r, context) for i, r in enumerate(results))
                return
            table = self.complex_table if _is_complex(node) else self.table
            entry = table.get(node.target)  # type: ignore[call-overload]
            if entry is None and table is self.complex_table:
                raise Unsupported("not for complex tensors")
            if entry is None:
                self._expand(node, blame)
                return
            try:
                self.env[node] = self._convert(node, entry)
            except Declined:
                self._expand(node, blame)
        except Unsupported as error:
            self._problem(blame, str(node.target), str(error))
            self.env[node] = self._stand_in(node)
        except UnboundSymbol as error:
            self._problem(blame, str(node.target), f"the size {error.symbol} depends on data")
            self.env[node] = self._stand_in(node)

    def _convert(self, node: fx.Node, entry: Converter) -> Any:
        operands = _operands(node)
        values = fx.map_arg(operands, lambda n: n.meta["val"])
        results = [r for r in _as_tuple(node.meta["val"])]
        _check_dtype(entry, values, results)
        context = self.context(node, values, results)
        laid = channels_last.convert(context, entry, fx.map_arg(operands, self._as_held))
        if isinstance(laid, channels_last.ChannelsLast):
            held = context.retyped(channels_last.moved(context.shape), context.dtype)
            return channels_last.ChannelsLast(self._checked(node, 0, laid.stored, held))
        converted = laid if laid is not None else entry(context, *fx.map_arg(operands, self.operand))
        single = isinstance(node.meta["val"], torch.Tensor)
        outputs = [
            self._checked(node, i, r, context) for i, r in enumerate([converted] if single else converted)
        ]
        if len(outputs) != len(results):
            raise InternalError(
                f"the converter of {node.target} gives {len(outputs)} results for {len(results)}",
                code="GO-1001",
                node=node.name,
                layer=origin(node).layer,
            )
        return outputs[0] if single else tuple(outputs)

    def context(self, node: fx.Node, values: Sequence[Any], results: Sequence[torch.Tensor]) -> Context:
        """For converting ``node``, or what it needs besides."""
        return Context(node, self.builder, self.symbols, values, results, self.machine, self._as_held)

    def _as_held(self, node: fx.Node) -> Any:
        value = node.meta["val"]
        return self.env[node] if _holds_tensor(value) else self.symbols.size(value)

    def operand(self, node: fx.Node) -> Any:
        """An operand as the program has it."""
        held = self._as_held(node)
        if not isinstance(held, channels_last.ChannelsLast):
            return held
        if node not in self.plain:
            context = self.context(node, (), [node.meta["val"]])
            self.plain[node] = channels_last.plain(context, held)
        return self.plain[node]

    def _expand(self, node: fx.Node, blame: fx.Node) -> None:
        """Converts an operator without a converter through torch's decomposition of it."""
        expansion = decompose_node(node, self.table)
        if expansion is None:
            raise Unsupported("no converter")
        tensors = [n for n in expansion.operands]
        for placeholder, source in zip(
            expansion.module.graph.find_nodes(op="placeholder"), tensors, strict=True
        ):
            if _holds_tensor(source.meta["val"]):
                self.env[placeholder] = self.env[source]
        self.walk(expansion.module, blame)
        results = expansion.module.graph.output_node().args[0]
        self.env[node] = fx.map_arg(results, lambda n: self.env[n])

    # -- checks ----------------------------------------------------------------------------------

    def _checked(self, node: fx.Node, index: int, result: Expr, context: Context) -> Expr:
        shape, dtype = context.outputs[index]
        found = result.ty
        same_rank = found.shape is not None and len(found.shape.values) == len(shape)
        if str(found.dtype.dtype) != dtype or not same_rank:
            self._contradiction(node, found, shape, dtype)
        proven = True
        for a, b in zip(found.shape.values, shape, strict=True):
            if self.symbols.same(a, b):
                continue
            if self.symbols.differ(a, b):
                self._contradiction(node, found, shape, dtype)
            proven = False
        if proven:
            return result
        # Neither proved nor refuted: the compiled code checks it on each call.
        return self.builder.match_cast(result, relax.TensorType(list(shape), dtype))

    def _contradiction(self, node: fx.Node, found: Any, shape: Sequence[Any], dtype: str) -> None:
        raise InternalError(
            f"the converter of {node.target} gives {found} where the program has {dtype}{list(shape)}",
            code="GO-1001",
            node=node.name,
            layer=origin(node).layer,
        )

    def _stand_in(self, node: fx.Node) -> Any:
        """Zeros of the right type, so that the rest of the graph can be checked as well."""

        def zeros(value: torch.Tensor) -> Expr:
            try:
                shape = self.symbols.shape(value.shape)
            except UnboundSymbol:
                shape = [tirx.IntImm("int64", 1)] * value.ndim
            try:
                dtype = tvm_dtype(value.dtype)
            except InputError:
                dtype = "float32"
            return self.builder.emit(relax.op.zeros(relax.ShapeExpr(shape), dtype))

        value = node.meta["val"]
        return zeros(value) if isinstance(value, torch.Tensor) else tuple(zeros(v) for v in value)

    def _problem(self, node: fx.Node, operator_name: str, reason: str) -> None:
        self.problems.append(_Problem(operator_name, reason, node.name, origin(node).layer or self.layer))

    def _report(self) -> None:
        if not self.problems:
            return
        grouped: dict[tuple[str, str], list[_Problem]] = {}
        for problem in self.problems:
            grouped.setdefault((problem.operator, problem.reason), []).append(problem)
        lines = ["the program cannot be compiled:"]
        for (name, reason), problems in grouped.items():
            places = ", ".join(f"{p.node} ({p.layer})" if p.layer else p.node for p in problems[:5])
            more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
            lines.append(f"  {name}: {reason}; {len(problems)}x at {places}{more}")
        first = self.problems[0]
        raise InputError("\n".join(lines), code="GO-3005", node=first.node, layer=first.layer)


def _is_complex(node: fx.Node) -> bool:
    """Whether the node reads or gives a complex tensor."""
    values = [node.meta["val"], *(n.meta["val"] for n in node.all_input_nodes)]
    return any(v.is_complex() for v in values if isinstance(v, torch.Tensor))


def _attribute(module: torch.nn.Module, target: str) -> torch.Tensor:
    value: Any = module
    for part in target.split("."):
        value = getattr(value, part)
    return value


def _as_tuple(value: Any) -> tuple[torch.Tensor, ...]:
    return (value,) if isinstance(value, torch.Tensor) else tuple(value)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_tensor(v) for v in value)
    return isinstance(value, torch.Tensor)


def _operands(node: fx.Node) -> list[Any]:
    """The node's operands in schema order, with the schema's defaults."""
    assert isinstance(node.target, torch._ops.OpOverload)
    given = list(node.args)
    operands = []
    for i, argument in enumerate(node.target._schema.arguments):
        if not argument.kwarg_only and i < len(given):
            operands.append(given[i])
        elif argument.name in node.kwargs:
            operands.append(node.kwargs[argument.name])
        else:
            operands.append(argument.default_value)
    return operands


def _check_dtype(entry: Converter, values: Sequence[Any], results: Sequence[torch.Tensor]) -> None:
    tensors = [
        t for v in values for t in (v if isinstance(v, (list, tuple)) else [v]) if isinstance(t, torch.Tensor)
    ]
    dtype = (tensors or list(results))[0].dtype
    if dtype not in entry.dtypes:
        raise Unsupported(f"not for {str(dtype).removeprefix('torch.')}")
