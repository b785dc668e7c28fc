"""A lowered kernel as a function of C."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from graphopt.codegen.csource.expressions import Scope, fits_vectors, is_unit_ramp
from graphopt.codegen.csource.prelude import Prelude
from graphopt.codegen.csource.text import Names, c_type
from graphopt.codegen.csource.values import (
    DType,
    Storage,
    Value,
    ValueBuilder,
    View,
    parse_dtype,
    substituted,
    values_of,
)
from graphopt.errors import InputError

_INT32 = DType("int", 32, 1)
# Arrays up to this size lie on the stack; larger ones are part of the workspace.
_STACK_BYTES = 16384


@dataclass(frozen=True)
class Scratch:
    """Memory that a kernel needs while it runs.

    Attributes:
        name: of the parameter that receives it.
        dtype: of its elements.
        elements: how many; an expression of the kernel's sizes.
    """

    name: str
    dtype: DType
    elements: Any


@dataclass
class Kernel:
    """A function of C.

    Its parameters are one pointer a buffer, in TensorIR's order (the result is the last), then
    one pointer for each scratch array, then the sizes.

    Attributes:
        name: in C.
        buffers: the TensorIR buffers behind the first parameters.
        scalars: sizes that are passed by value, as TensorIR's variables.
        parameters: their declarations, in order.
        body: lines of C.
    """

    name: str
    buffers: list[Any]
    parameters: list[str] = field(default_factory=list)
    scratch: list[Scratch] = field(default_factory=list)
    scalars: list[Any] = field(default_factory=list)
    body: list[str] = field(default_factory=list)

    @property
    def declaration(self) -> str:
        """Its head, without the semicolon."""
        return f"void {self.name}({', '.join(self.parameters) or 'void'})"


def print_kernel(func: tirx.PrimFunc, name: str, prelude: Prelude) -> Kernel:
    """The kernel as C.

    Raises:
        InputError: GO-3005, it has an operation without a form in C.
    """
    return _Printer(func, name, prelude).run()


class _Printer:
    def __init__(self, func: tirx.PrimFunc, name: str, prelude: Prelude) -> None:
        self.func = func
        self.prelude = prelude
        self.names = Names()
        self.builder = ValueBuilder()
        self.kernel = Kernel(name, [])
        self.lines: list[str] = []
        self.depth = 1
        self.bound: list[tuple[range, str]] = []
        self.definitions: dict[Any, Any] = {}

    def run(self) -> Kernel:
        kernel, noalias = self.kernel, bool((self.func.attrs or {}).get("tirx.noalias", False))
        restrict = "restrict " if noalias else ""
        written = _written(self.func.body)
        for parameter in self.func.params:
            if not _is_buffer(parameter):
                kernel.scalars.append(parameter)
                continue
            element = parse_dtype(str(parameter.dtype))
            storage = Storage(self.names.new(str(parameter.name)), element.scalar)
            self.builder.views[parameter] = View(storage, element)
            kernel.buffers.append(parameter)
            qualifier = "" if any(parameter.same_as(b) for b in written) else "const "
            kernel.parameters.append(f"{qualifier}{c_type(element)} *{restrict}{storage.name}")
        known = {v for v in kernel.scalars}
        for parameter in kernel.buffers:
            for size in parameter.shape:
                if isinstance(size, ir.Var) and size not in known:
                    known.add(size)
                    kernel.scalars.append(size)
        sizes = []
        for variable in kernel.scalars:
            dtype = parse_dtype(str(variable.ty))
            self._declare(variable, dtype)
            sizes.append(f"{c_type(dtype)} {self.builder.variables[variable].attribute}")
        self._statement(self.func.body)
        for scratch in kernel.scratch:
            kernel.parameters.append(f"{c_type(scratch.dtype)} *{restrict}{scratch.name}")
        kernel.parameters += sizes
        kernel.body = self._without_unused()
        return kernel

    def _without_unused(self) -> list[str]:
        """The lines, but for bindings that nothing uses: TVM binds sizes of arrays, which C does not need."""
        words = [re.findall(r"\w+", line) for line in self.lines]
        uses = Counter(word for line in words for word in line)
        unused: set[int] = set()
        for lines, name in reversed(self.bound):
            if uses[name] == 1:
                unused.update(lines)
                uses.subtract(word for number in lines for word in words[number])
        return [line for number, line in enumerate(self.lines) if line and number not in unused]

    # -- statements ------------------------------------------------------------------------------

    def _statement(self, statement: Any) -> None:
        handler = getattr(self, f"_on_{type(statement).__name__}", None)
        if handler is None:
            raise InputError(f"target 'c' has no form for {type(statement).__name__}", code="GO-3005")
        handler(statement)

    def _on_SeqStmt(self, statement: tirx.SeqStmt) -> None:
        for part in statement.seq:
            self._statement(part)

    def _on_AttrStmt(self, statement: tirx.AttrStmt) -> None:
        self._statement(statement.body)

    def _on_Evaluate(self, statement: tirx.Evaluate) -> None:
        if not isinstance(statement.value, tirx.IntImm):
            raise InputError(f"target 'c' has no form for {statement.value}", code="GO-3005")

    def _on_AssertStmt(self, statement: tirx.AssertStmt) -> None:
        raise InputError("target 'c' has no form for assertions", code="GO-3005")

    def _on_Bind(self, statement: tirx.Bind) -> None:
        value = self.builder.of(statement.value)
        if value.dtype.lanes > 1:
            self.builder.variables[statement.var] = value
            return
        scope = self._scope([value])
        text = scope.text(value)
        start = len(self.lines)
        self._emit(scope.lines)
        name = self._declare(statement.var, value.dtype)
        self.bound.append((range(start, len(self.lines) + 1), name))
        self.definitions[statement.var] = substituted(statement.value, self.definitions)
        self._emit([f"const {c_type(value.dtype)} {name} = {text};"])

    def _on_DeclBuffer(self, statement: tirx.DeclBuffer) -> None:
        data = statement.data
        source = data.args[0] if isinstance(data, ir.Call) else data
        element = parse_dtype(str(statement.buffer.dtype))
        self.builder.views[statement.buffer] = View(self.builder.views[source].storage, element)

    def _on_AllocBuffer(self, statement: tirx.AllocBuffer) -> None:
        buffer = statement.buffer
        element = parse_dtype(str(buffer.dtype))
        extent = buffer.shape[0] if len(buffer.shape) else tirx.IntImm("int32", 1)
        name = self.names.new(str(buffer.name))
        size = int(extent) if isinstance(extent, tirx.IntImm) else 0
        power_of_two = element.lanes & (element.lanes - 1) == 0
        on_stack = 0 < size * element.lanes * element.bits // 8 <= _STACK_BYTES
        if on_stack and element.lanes > 1 and power_of_two and element.kind not in ("bool", "bfloat"):
            storage = Storage(name, element)
            self._emit([f"{self.prelude.vector(element)} {name}[{size}];"])
        elif on_stack:
            storage = Storage(name, element.scalar)
            self._emit([f"{c_type(element)} {name}[{size * element.lanes}];"])
        else:
            storage = Storage(name, element.scalar)
            elements = substituted(extent * element.lanes, self.definitions)
            self.kernel.scratch.append(Scratch(name, element.scalar, elements))
        self.builder.views[buffer] = View(storage, element)

    def _on_For(self, loop: tirx.For) -> None:
        if loop.kind == tirx.ForKind.THREAD_BINDING:
            raise InputError("target 'c' has no form for loops over threads", code="GO-3005")
        start, extent = self.builder.of(loop.min), self.builder.of(loop.extent)
        scope = self._scope([start, extent])
        low = scope.term(start)
        # TensorIR knows the number of steps before the first one; C asks again before each.
        count = scope.name(extent) if _loads(extent) else scope.term(extent)
        end = count if low == "0" else f"{low} + {count}"
        self._emit(scope.lines)
        dtype = parse_dtype(str(loop.loop_var.ty))
        name = self._declare(loop.loop_var, dtype)
        parallel = loop.kind == tirx.ForKind.PARALLEL
        mark, scratch = len(self.lines), len(self.kernel.scratch)
        if parallel:
            self._emit(["PARALLEL_FOR"])
        self._emit([f"for ({c_type(dtype)} {name} = {low}; {name} < {end}; ++{name}) {{"])
        self._block(loop.body)
        self._emit(["}"])
        if parallel and len(self.kernel.scratch) != scratch:
            self.lines[mark] = ""  # threads would share the scratch memory

    def _on_While(self, statement: tirx.While) -> None:
        scope = self._scope([])
        condition = self.builder.of(statement.condition)
        scope.will_print([condition])
        text = scope.text(condition)
        self._emit(["for (;;) {"])
        self.depth += 1
        self._emit([*scope.lines, f"if (!({text}))", "  break;"])
        self.depth -= 1
        self._block(statement.body)
        self._emit(["}"])

    def _on_IfThenElse(self, statement: tirx.IfThenElse) -> None:
        condition = self.builder.of(statement.condition)
        scope = self._scope([condition])
        text = scope.text(condition)
        self._emit(scope.lines)
        self._emit([f"if ({text}) {{"])
        self._block(statement.then_case)
        if statement.else_case is not None:
            self._emit(["} else {"])
            self._block(statement.else_case)
        self._emit(["}"])

    def _on_BufferStore(self, store: tirx.BufferStore) -> None:
        builder = self.builder
        view = builder.views[store.buffer]
        index, value = builder.index(store.buffer, store.indices), builder.of(store.value)
        lanes = value.dtype.lanes
        if lanes == 1:
            self._store_scalar(view, index, value)
        elif (
            fits_vectors(value)
            and value.dtype.kind != "bool"
            and (index.dtype.lanes == 1 or is_unit_ramp(index))
        ):
            scope = self._scope([index, value])
            text = scope.text(value)
            place = scope.vector_place(view, index, value.dtype, "")
            self._emit_in_block(scope.lines, f"{place} = {text};")
        else:
            self._store_lanes(view, index, value)

    def _store_scalar(self, view: View, index: Value, value: Value) -> None:
        scope = self._scope([index, value])
        text = scope.text(value)
        place = scope.place(self.builder.make("load", value.dtype, [index], view))
        self._emit_in_block(scope.lines, f"{place} = {text};")

    def _store_lanes(self, view: View, index: Value, value: Value) -> None:
        """A vector that is no vector of C's: a loop over its lanes."""
        builder, lanes = self.builder, value.dtype.lanes
        name = self.names.new("lane")
        lane = builder.make("var", _INT32, (), name)
        one = builder.lane(value, lane)
        if index.dtype.lanes == 1:
            place = builder.make("element", one.dtype, [index, lane], view)
        else:
            place = builder.make("load", one.dtype, [builder.lane(index, lane)], view)
        target = place
        overlaps = [v for v in _loads(one) if v.attribute.storage == view.storage and v.args != place.args]
        if overlaps:
            # All lanes are read before any is written.
            temporary = Storage(self.names.new("lanes"), one.dtype)
            self._emit([f"{c_type(one.dtype)} {temporary.name}[{lanes}];"])
            target = builder.make("load", one.dtype, [lane], View(temporary, one.dtype))
        self._lane_loop(name, lanes, target, one)
        if overlaps:
            self._lane_loop(name, lanes, place, target)

    def _lane_loop(self, name: str, lanes: int, target: Value, value: Value) -> None:
        self._emit([f"for (int32_t {name} = 0; {name} < {lanes}; ++{name}) {{"])
        self.depth += 1
        scope = self._scope([*target.args, value])
        text = scope.text(value)
        place = scope.place(target)
        self._emit([*scope.lines, f"{place} = {text};"])
        self.depth -= 1
        self._emit(["}"])

    # -- lines -----------------------------------------------------------------------------------

    def _scope(self, roots: Sequence[Value]) -> Scope:
        scope = Scope(self.names, self.prelude)
        scope.will_print(roots)
        return scope

    def _declare(self, variable: Any, dtype: DType) -> str:
        name = self.names.new(str(variable.name))
        self.builder.variables[variable] = self.builder.make("var", dtype, (), name)
        return name

    def _block(self, body: Any) -> None:
        self.depth += 1
        self._statement(body)
        self.depth -= 1

    def _emit(self, lines: Sequence[str]) -> None:
        self.lines += ["  " * self.depth + line for line in lines]

    def _emit_in_block(self, declarations: Sequence[str], statement: str) -> None:
        if declarations:
            self._emit(["{", *(f"  {line}" for line in declarations), f"  {statement}", "}"])
        else:
            self._emit([statement])


def _is_buffer(parameter: Any) -> bool:
    return "Buffer" in type(parameter.ty).__name__


def _written(body: Any) -> list[Any]:
    """Parameters that the body writes, also through buffers declared on their memory."""
    stored: list[Any] = []
    aliases: list[tuple[Any, Any]] = []
    tvm_ffi.structural_walk(body, (tirx.BufferStore, lambda s: stored.append(s.buffer)))
    tvm_ffi.structural_walk(body, (tirx.DeclBuffer, lambda d: aliases.append((d.buffer, d.data))))
    for buffer, data in reversed(aliases):
        if any(buffer.same_as(s) for s in stored):
            stored.append(data.args[0] if isinstance(data, ir.Call) else data)
    return stored


def _loads(value: Value) -> list[Value]:
    return [v for v in values_of(value) if v.op in ("load", "element")]
