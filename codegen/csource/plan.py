"""The sequence of kernel calls, and where each tensor lies while it lives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, relax, tirx

from graphopt.codegen.csource.kernel import Kernel
from graphopt.codegen.csource.values import DType, parse_dtype, substituted
from graphopt.errors import InputError, InternalError

ALIGNMENT = 64
"""Bytes; tensors in the workspace and weights in their file start at multiples of it."""


@dataclass(eq=False)
class Tensor:
    """Memory for one tensor.

    Attributes:
        kind: ``input``, ``output``, ``weight`` or ``workspace``.
        dtype: of its elements.
        shape: expressions of the model's sizes.
        number: of the input or output; of a weight its offset in bytes.
        first, last: steps between which it lives, in the workspace.
        offset: in the workspace: a number of bytes, or the number of a slot if sizes are symbolic.
    """

    kind: str
    dtype: DType
    shape: Sequence[Any]
    number: int = 0
    first: int = -1
    last: int = -1
    offset: int = 0

    @property
    def static_bytes(self) -> int | None:
        """Its size; None where it is symbolic."""
        count = 1
        for size in self.shape:
            if not isinstance(size, int | tirx.IntImm):
                return None
            count *= int(size)
        return count * self.dtype.bits // 8


@dataclass
class Step:
    """One call of a kernel.

    Attributes:
        kernel: what is called.
        tensors: its tensors, in the order of its parameters, and then its scratch memory.
        sizes: values of its size parameters.
    """

    kernel: Kernel
    tensors: list[Tensor]
    sizes: list[Any]


@dataclass
class Plan:
    """A model as calls.

    Attributes:
        inputs: the tensors that the caller gives, in the signature's order.
        outputs: where each result is: an ``output`` tensor if a kernel writes it in place, otherwise
            what has to be copied.
        output_shapes: of the results.
        symbols: variables of the symbolic sizes, which are parameters of the model.
        steps: calls in order.
        checks: pairs of sizes that must be equal.
        weights: contents of the weights' file.
        slots: where sizes are symbolic, the tensors that share each piece of the workspace.
        workspace: bytes, where sizes are static.
    """

    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    output_shapes: list[Sequence[Any]] = field(default_factory=list)
    symbols: list[Any] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    checks: list[tuple[Any, Any]] = field(default_factory=list)
    weights: bytearray = field(default_factory=bytearray)
    slots: list[list[Tensor]] = field(default_factory=list)
    workspace: int = 0

    @property
    def tensors(self) -> list[Tensor]:
        """Those in the workspace, in the order in which they come to life."""
        found = {t: None for s in self.steps for t in s.tensors if t.kind == "workspace"}
        return list(found)


def make_plan(mod: tvm.IRModule, kernels: dict[str, Kernel]) -> Plan:
    """Read ``main`` of a module whose kernels write into preallocated tensors.

    Args:
        mod: after the pipeline's step ``destination-passing``.
        kernels: by the name that ``main`` calls them by.

    Raises:
        InputError: GO-3005, it does what has no form in C (branches and loops that data decides).
    """
    return _Planner(mod, kernels).run()


class _Planner:
    def __init__(self, mod: tvm.IRModule, kernels: dict[str, Kernel]) -> None:
        self.main = mod["main"]
        self.kernels = kernels
        self.env: dict[Any, Any] = {}
        self.weights: dict[tuple[bytes, str], Tensor] = {}
        self.plan = Plan([])

    def run(self) -> Plan:
        plan = self.plan
        for number, parameter in enumerate(self.main.params):
            tensor = _tensor("input", parameter.ty, number)
            plan.inputs.append(tensor)
            self.env[parameter] = tensor
            for size in tensor.shape:
                if isinstance(size, ir.Var) and size not in plan.symbols:
                    plan.symbols.append(size)
        for block in self.main.body.blocks:
            for binding in block.bindings:
                self._binding(binding)
        body = self.main.body.body
        for number, (result, ty) in enumerate(zip(self._value(body), body.ty.fields, strict=True)):
            plan.output_shapes.append(list(ty.shape.values))
            if result.kind == "workspace":
                # Written where the caller wants it; a second output of the same tensor is a copy.
                result.kind, result.number = "output", number
            plan.outputs.append(result)
        _set_lives(plan)
        if plan.symbols:
            plan.slots = _share_slots(plan.tensors)
        else:
            plan.workspace = _pack(plan.tensors)
        return plan

    def _binding(self, binding: Any) -> None:
        if isinstance(binding, relax.MatchCast):
            source = self._value(binding.value)
            wanted = binding.ty.shape.values
            for found, size in zip(source.shape, wanted, strict=True):
                unknown = [v for v in _variables(size) if v not in self.plan.symbols]
                if unknown:
                    raise InputError(
                        f"target 'c' cannot compile sizes that depend on data ({unknown[0].name})",
                        code="GO-3005",
                    )
                self.plan.checks.append((found, size))
            self.env[binding.var] = source
            return
        self.env[binding.var] = self._value(binding.value)

    def _value(self, value: Any) -> Any:
        if isinstance(value, ir.GenericConst):
            return self._weight(value)
        if isinstance(value, ir.Var):
            return self.env[value]
        if isinstance(value, relax.Tuple):
            return tuple(self._value(v) for v in value.fields)
        if isinstance(value, relax.TupleGetItem):
            return self._value(value.tuple_value)[int(value.index)]
        if isinstance(value, ir.Call):
            return self._call(value)
        raise _no_form(type(value).__name__)

    def _call(self, call: Any) -> Any:
        if isinstance(call.op, ir.GlobalVar):
            kernel = self.kernels.get(call.op.name_hint)
            if kernel is None:
                raise _no_form("a branch or loop that data decides")
            self._step(kernel, call.args)
            return None
        name = getattr(call.op, "name", type(call.op).__name__)
        if name == "relax.builtin.alloc_tensor":
            return _tensor("workspace", call.ty)
        if name == "relax.reshape":
            return self._value(call.args[0])
        raise _no_form(name)

    def _step(self, kernel: Kernel, args: Sequence[Any]) -> None:
        tensors, shapes, given = [], [], []
        for arg in args:
            if isinstance(arg, relax.ShapeExpr):
                given += list(arg.values)
            elif isinstance(arg, relax.Expr | ir.Var | ir.GenericConst) and hasattr(arg.ty, "shape"):
                tensors.append(self._value(arg))
                shapes.append(arg.ty.shape.values)
            else:
                given.append(arg)
        sizes: dict[Any, Any] = {}
        for buffer, shape in zip(kernel.buffers, shapes, strict=True):
            for wanted, found in zip(buffer.shape, shape, strict=True):
                if isinstance(wanted, ir.Var):
                    sizes.setdefault(wanted, found)
        for scalar in kernel.scalars:
            if scalar not in sizes:
                if not given:
                    raise InternalError(f"kernel {kernel.name}: no value for {scalar.name}", code="GO-1001")
                sizes[scalar] = given.pop(0)
        for scratch in kernel.scratch:
            extent = (
                scratch.elements
                if isinstance(scratch.elements, int)
                else substituted(scratch.elements, sizes)
            )
            tensors.append(Tensor("workspace", scratch.dtype, [extent]))
        self.plan.steps.append(Step(kernel, tensors, [sizes[s] for s in kernel.scalars]))

    def _weight(self, constant: Any) -> Tensor:
        array = constant.value.numpy()
        contents = array.tobytes()
        key = (hashlib.sha256(contents).digest(), str(constant.ty.dtype.dtype))
        if key not in self.weights:
            self.plan.weights.extend(b"\0" * (-len(self.plan.weights) % ALIGNMENT))
            self.weights[key] = Tensor("weight", parse_dtype(key[1]), array.shape, len(self.plan.weights))
            self.plan.weights.extend(contents)
        return self.weights[key]


def _no_form(what: str) -> InputError:
    return InputError(
        f"target 'c' has no form for {what}",
        code="GO-3005",
        hint="compile for a CPU by name, such as 'cpu' or 'aarch64'",
    )


def _tensor(kind: str, ty: Any, number: int = 0) -> Tensor:
    return Tensor(kind, parse_dtype(str(ty.dtype.dtype)), list(ty.shape.values), number)


def _variables(expression: Any) -> list[Any]:
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (ir.Var, found.append))
    return found


def _set_lives(plan: Plan) -> None:
    for number, step in enumerate(plan.steps):
        for tensor in step.tensors:
            tensor.first = number if tensor.first < 0 else tensor.first
            tensor.last = number


def _overlap(a: Tensor, b: Tensor) -> bool:
    return a.first <= b.last and b.first <= a.last


def _pack(tensors: Sequence[Tensor]) -> int:
    """Places tensors in one block of memory: the largest first, each at the lowest free offset.

    "Greedy by size" of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020 (arXiv:2001.03288), section 4.2.

    Returns:
        the size of the block in bytes.
    """
    placed: list[Tensor] = []
    end = 0

    def room(tensor: Tensor) -> int:
        size = tensor.static_bytes
        assert size is not None
        return -(-size // ALIGNMENT) * ALIGNMENT

    for tensor in sorted(tensors, key=room, reverse=True):
        offset = 0
        for other in sorted((p for p in placed if _overlap(p, tensor)), key=lambda p: p.offset):
            if offset + room(tensor) <= other.offset:
                break
            offset = max(offset, other.offset + room(other))
        tensor.offset = offset
        placed.append(tensor)
        end = max(end, offset + room(tensor))
    return end


def _share_slots(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Groups of tensors that are never alive together; each group gets the room of its largest.

    Which tensor is larger is not known, so that each takes the free slot with the shapes most like its own.
    """
    slots: list[list[Tensor]] = []
    for tensor in tensors:
        free = [s for s in slots if not any(_overlap(tensor, other) for other in s)]
        alike = [s for s in free if any(_guess(o) == _guess(tensor) for o in s)]
        nearest = min(alike or free, key=lambda s: abs(max(map(_guess, s)) - _guess(tensor)), default=None)
        if nearest is None:
            nearest = []
            slots.append(nearest)
        tensor.offset = slots.index(nearest)
        nearest.append(tensor)
    return slots


def _guess(tensor: Tensor) -> int:
    """Elements, if every symbolic size were 64."""
    count = tensor.dtype.bits
    for size in tensor.shape:
        count *= int(size) if isinstance(size, int | tirx.IntImm) else 64
    return count
