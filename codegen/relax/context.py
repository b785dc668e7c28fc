"""What a converter works with: the node it converts, and ways to emit Relax for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import tvm
from torch import fx
from tvm import relax, s_tir, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.relax.dtypes import tvm_dtype
from graphopt.codegen.relax.machine import Machine
from graphopt.codegen.relax.symbols import SymbolTable, int64, known
from graphopt.codegen.schedules.cpu.tiling import Registers
from graphopt.codegen.schedules.cuda.tiles import Capability
from graphopt.codegen.schedules.rule import RULE_ATTRIBUTE

Expr = Any
"""A Relax expression whose type is a tensor of known rank."""

Shape = list[Any]
"""TIR expressions, all int64."""

TensorSpec = tuple[Sequence[Any], str]
"""Shape and TVM dtype."""


OUT_ELEMENTWISE_FUSIBLE = 4
"""TVM's OpPatternKind for a reduction into which elementwise consumers may be fused."""

_OPAQUE = 8
"""TVM's OpPatternKind for what must not be fused."""


class Unsupported(Exception):
    """Raised by converters: the operator is used in a way that they do not handle."""


class Declined(Exception):
    """Raised by converters, before they emit anything: the operator's decomposition is to take this use."""


def shape_of(x: Expr) -> Shape:
    """The shape of a Relax tensor as TIR expressions."""
    return list(x.ty.shape.values)


def dtype_of(x: Expr) -> str:
    """The element type of a Relax tensor as TVM writes it."""
    return str(x.ty.dtype.dtype)


def rank_of(x: Expr) -> int:
    return len(x.ty.shape.values)


def normalize_axis(axis: int, rank: int) -> int:
    """An axis counted from the front; torch lets scalars take 0 and -1."""
    return axis + max(rank, 1) if axis < 0 else axis


_FEWEST_ROWS = 4
"""Of a tile where the number of rows is not known."""


class Context:
    """The lowering of one node.

    Attributes:
        node: the node that is being converted.
        builder: receives the bindings.
        symbols: sizes as TIR expressions.
        values: the operands as torch's fake tensors and numbers, in schema order.
        outputs: shape and dtype of each result, from ``node.meta["val"]``.
        machine: what the code is for.
        held: how a node of the program is held, which may be with its channels last.
        channels_last: whether operands and results hold their channels (axis 1) as the last axis.
    """

    def __init__(
        self,
        node: fx.Node,
        builder: relax.BlockBuilder,
        symbols: SymbolTable,
        values: Sequence[Any],
        results: Sequence[torch.Tensor],
        machine: Machine,
        held: Callable[[fx.Node], Any],
    ) -> None:
        self.node = node
        self.builder = builder
        self.symbols = symbols
        self.values = values
        self.outputs: list[TensorSpec] = [_spec(r, symbols) for r in results]
        self.machine = machine
        self.held = held
        self.channels_last = False

    @property
    def registers(self) -> Registers | None:
        """Vector registers of the CPU that the code is for; None for other targets."""
        return self.machine.registers

    @property
    def gpu(self) -> Capability | None:
        """Capability of the GPU that the code is for; None for other targets."""
        return self.machine.gpu

    @property
    def lanes(self) -> int | None:
        """Float32 elements of a vector register; None where the code is not for a CPU."""
        return None if self.registers is None else self.registers.lanes

    def rows_at_once(self, size: Any) -> int | None:
        """How many rows a tile is chosen for: those that there are, or were in the example that was captured.

        Any other number is computed in tiles of the same height, so that a few in the example are no hint.
        """
        if (number := known(size)) is not None:
            return number
        typical = self.symbols.typical(size)
        return None if typical is None else max(typical, _FEWEST_ROWS)

    def plane(self, rank: int, spatial: int) -> slice:
        """Where the ``spatial`` axes stand among the ``rank`` axes of an image."""
        last = rank - 1 if self.channels_last else rank
        return slice(last - spatial, last)

    def retyped(self, shape: Sequence[Any], dtype: str) -> Context:
        """The same context for an intermediate result of another type."""
        other = copy.copy(self)
        other.outputs = [(list(shape), dtype)]
        return other

    @property
    def shape(self) -> Shape:
        """The shape of the (first) result."""
        return list(self.outputs[0][0])

    @property
    def dtype(self) -> str:
        """The element type of the (first) result."""
        return self.outputs[0][1]

    def emit(self, expression: Expr) -> Expr:
        """Binds a Relax expression to a variable."""
        return self.builder.emit(expression)

    def reshape(self, x: Expr, shape: Sequence[Any]) -> Expr:
        """``x`` with another shape of as many elements; ``x`` itself if it has that shape."""
        shape = [int64(d) for d in shape]
        if len(shape) == rank_of(x) and all(
            self.symbols.same(a, b) for a, b in zip(shape, shape_of(x), strict=True)
        ):
            return x
        return self.emit(relax.op.reshape(x, relax.ShapeExpr(shape)))

    def assume_shape(self, x: Expr, shape: Sequence[Any]) -> Expr:
        """``x`` typed with ``shape``, a proved or run-time checked equal of the shape that it has."""
        if all(self.symbols.same(a, b) for a, b in zip(shape, shape_of(x), strict=True)):
            return x
        return self.builder.match_cast(x, relax.TensorType([int64(d) for d in shape], dtype_of(x)))

    def constant(self, tensor: torch.Tensor) -> Expr:
        """The tensor as a Relax constant of the same dtype."""
        return constant_expr(tensor)

    def kernel(
        self,
        name: str,
        inputs: Sequence[Expr],
        define: Callable[..., Any],
        *,
        pattern: int | None = None,
    ) -> Any:
        """Emits a call of a kernel that is defined by tensor expressions.

        Args:
            name: the kernel's name; equal kernels are shared.
            inputs: Relax tensors.
            define: takes one te tensor an input and returns a te tensor, or a list of them.  It may
                use the program's symbolic sizes freely.
            pattern: what fusion may do with the kernel (TVM's OpPatternKind); None: TVM finds out.

        Returns:
            a Relax expression for each tensor that ``define`` returns (a list, if it returned one).
        """
        placeholders = [
            te.placeholder(shape_of(x), dtype_of(x), f"x{i}" if len(inputs) > 1 else "x")
            for i, x in enumerate(inputs)
        ]
        result = define(*placeholders)
        single = isinstance(result, te.Tensor)
        results: list[te.Tensor] = [result] if single else list(result)
        body = te.create_prim_func([*placeholders, *results], "int64").body
        sizes = self._free_sizes(body, [*(p.shape for p in placeholders), *(r.shape for r in results)])
        function = te.create_prim_func([*placeholders, *sizes, *results], "int64")
        if pattern is not None:
            function = function.with_attr("op_pattern", pattern)
        calls = self._call(
            name, function, [*inputs, *sizes], [(list(r.shape), str(r.dtype)) for r in results]
        )
        return calls[0] if single else calls

    def loops(
        self,
        name: str,
        inputs: Sequence[Expr],
        outputs: Sequence[TensorSpec],
        define: Callable[..., None],
        *,
        rule: str | None = None,
    ) -> list[Expr]:
        """Emits a call of a kernel that is written as loops (scans, sorts, scatters).

        Args:
            name: the kernel's name.
            inputs: Relax tensors.
            outputs: shape and dtype of each result.
            define: takes the input buffers and the output buffers and writes the loop nest with
                ``tvm.script.ir_builder.tirx``.
            rule: the name of its schedule, if its loops stand as they are to be run; None: a rule of the
                target is to arrange them.
        """
        attributes = {"tirx.noalias": True} | ({} if rule is None else {RULE_ATTRIBUTE: rule})
        specs = [*((shape_of(x), dtype_of(x)) for x in inputs), *outputs]

        def build(sizes: Sequence[tirx.Var]) -> tirx.PrimFunc:
            with IRBuilder() as ib, T.prim_func(private=True, s_tir=True):
                T.func_attr(attributes)
                arguments = [T.arg(f"x{i}", T.Buffer(s, d)) for i, (s, d) in enumerate(specs[: len(inputs)])]
                for size in sizes:
                    T.arg(size.name, size)
                results = [T.arg(f"y{i}", T.Buffer(s, d)) for i, (s, d) in enumerate(outputs)]
                define(*arguments, *results)
            return ib.get()

        sizes = self._free_sizes(build([]).body, [s for s, _ in specs])
        return self._call(name, build(sizes), [*inputs, *sizes], outputs)

    def overwrite(self, name: str, target: Expr, inputs: Sequence[Expr], define: Callable[..., None]) -> Expr:
        """Emits a call of a kernel that writes into a tensor that exists, whose memory the result has.

        Nothing else may read ``target`` afterwards, and no caller may hold it: Relax does not check this.

        Args:
            name: the kernel's name.
            target: a Relax tensor.
            inputs: Relax tensors that the kernel reads.
            define: takes the buffer of ``target`` and the input buffers, as for :meth:`loops`.
        """
        operands = [target, *inputs]
        specs = [(shape_of(x), dtype_of(x)) for x in operands]

        def build(sizes: Sequence[tirx.Var]) -> tirx.PrimFunc:
            with IRBuilder() as ib, T.prim_func(private=True, s_tir=True):
                T.func_attr({"tirx.noalias": True})
                buffers = [T.arg(f"x{i}", T.Buffer(s, d)) for i, (s, d) in enumerate(specs)]
                for size in sizes:
                    T.arg(size.name, size)
                define(*buffers)
            return ib.get()

        sizes = self._free_sizes(build([]).body, [s for s, _ in specs])
        function = s_tir.renew_defs(build(sizes)).without_attr("global_symbol")
        function = function.with_attr("op_pattern", _OPAQUE)
        kernel = self.builder.add_func(function, name)
        arguments = relax.Tuple([*operands, *sizes])
        return self.emit(relax.call_tir_inplace(kernel, arguments, [0], [relax.TensorType(*specs[0])]))

    def _free_sizes(self, body: Any, shapes: Sequence[Sequence[Any]]) -> list[tirx.Var]:
        """Symbolic sizes that a kernel uses and that are no axis of its buffers."""
        used = set(tirx.analysis.undefined_vars(body))
        for shape in shapes:
            for size in shape:
                used.update(tirx.analysis.undefined_vars(int64(size)))
        axes = {size for shape in shapes for size in shape if isinstance(size, tvm.ir.Var)}
        return [v for v in self.symbols.variables.values() if v in used and v not in axes]

    def _call(
        self, name: str, function: tirx.PrimFunc, arguments: Sequence[Any], outputs: Sequence[TensorSpec]
    ) -> list[Expr]:
        # Variables must not be shared with the caller: kernels are functions of their own.
        function = s_tir.renew_defs(function).without_attr("global_symbol")
        types = [relax.TensorType(list(shape), dtype) for shape, dtype in outputs]
        target = self.builder.add_func(function, name)
        call = self.emit(relax.call_tir(target, relax.Tuple(list(arguments)), types))
        if len(types) == 1:
            return [call]
        return [self.emit(relax.TupleGetItem(call, i)) for i in range(len(types))]


def _spec(value: torch.Tensor, symbols: SymbolTable) -> TensorSpec:
    """Shape and dtype of a value; complex numbers are pairs of real ones along a last axis."""
    if value.is_complex():
        return [*symbols.shape(value.shape), int64(2)], tvm_dtype(value.dtype.to_real())
    return symbols.shape(value.shape), tvm_dtype(value.dtype)


def constant_expr(tensor: torch.Tensor) -> Expr:
    """A torch tensor as a Relax constant; the dtype is kept (``relax.const`` narrows int64)."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj()).contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes  # numpy has no bfloat16 of its own

        array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    else:
        array = tensor.numpy()
    return relax.const(tvm.runtime.tensor(array), tvm_dtype(tensor.dtype))
