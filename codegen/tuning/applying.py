"""The records of tuning in a compilation: between fusion and scheduling."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx

from graphopt.codegen.schedules.cpu.retile import Panels
from graphopt.codegen.schedules.decisions import UnknownDecision
from graphopt.codegen.schedules.rule import RULE_ATTRIBUTE
from graphopt.codegen.targets import Target
from graphopt.codegen.tuning.database import Record
from graphopt.codegen.tuning.kernel import arrange, is_scheduled, kernel_key

_CALL = tvm.ir.Op.get("relax.call_tir")
_log = logging.getLogger(__name__)


@dataclass
class Applied:
    """What became of the records.

    Attributes:
        tuned: decisions of each kernel that got its record's schedule, by the kernel's name.
        refused: kernels that have a record which does not fit them, with the reason; they got the
            default schedule.
    """

    tuned: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def apply_records(
    mod: tvm.IRModule, target: Target, records: Mapping[str, Record]
) -> tuple[tvm.IRModule, Applied]:
    """Schedules the kernels that have a record as it says; others are left for the rules.

    Args:
        mod: after ``FUSE``.
        records: the best one of each kernel, by :func:`~graphopt.codegen.tuning.kernel.kernel_key`.
    """
    applied = Applied()
    if not records:
        return mod, applied
    functions: dict[Any, tirx.PrimFunc] = {}
    packed: dict[str, Panels] = {}
    for var, func in mod.functions_items():
        if not isinstance(func, tirx.PrimFunc) or is_scheduled(func):
            continue
        record = records.get(kernel_key(func, target))
        if record is None:
            continue
        name = var.name_hint
        try:
            arranged = arrange(func, target, record.decisions)
            if arranged.panels is not None:
                _require_constants(mod, name, arranged.panels)
                packed[name] = arranged.panels
        except UnknownDecision as error:
            applied.refused[name] = str(error)
            _log.warning("the tuned schedule of %s does not fit it: %s", name, error)
            continue
        functions[var] = arranged.function.with_attr(RULE_ATTRIBUTE, arranged.rule)
        applied.tuned[name] = dict(record.decisions)
    others = {v: f for v, f in mod.functions_items() if v not in functions}
    resized = {v.name_hint: f for v, f in functions.items() if v.name_hint in packed}
    others |= {v: f for v, f in functions.items() if v.name_hint not in packed}
    mod = tvm.IRModule(others, attrs=mod.attrs)
    return _repack(mod, resized, packed) if packed else mod, applied


def _require_constants(mod: tvm.IRModule, name: str, panels: Panels) -> None:
    """Raises :class:`UnknownDecision` where a call passes something else than a constant as weights."""

    def check(call: Any) -> None:
        if _calls_one_of(call, {name}):
            if not isinstance(call.args[1].fields[panels.parameter], tvm.ir.GenericConst):
                raise UnknownDecision("its weights are no constants here")

    for _, function in mod.functions_items():
        if isinstance(function, relax.Function):
            tvm_ffi.structural_walk(function, (relax.Call, check))


def _calls_one_of(call: relax.Call, names: Container[str]) -> bool:
    return call.op == _CALL and call.args[0].name_hint in names


def _repack(
    mod: tvm.IRModule, functions: Mapping[str, tirx.PrimFunc], packed: Mapping[str, Panels]
) -> tvm.IRModule:
    """Add kernels whose weights have another shape, and give every call of them its weights so.

    Equal constants stay one.
    """
    constants: dict[tuple[bytes, tuple[int, ...], Panels], Any] = {}

    def repacked(call: relax.Call) -> relax.Call:
        panels = packed[call.args[0].name_hint]
        arguments = list(call.args[1].fields)
        weights = arguments[panels.parameter].value.numpy()
        key = hashlib.sha256(weights.data).digest(), weights.shape, panels
        if key not in constants:
            constants[key] = relax.const(tvm.runtime.tensor(panels.repack(weights)), str(weights.dtype))
        arguments[panels.parameter] = constants[key]
        return relax.Call(
            call.op, [variables[call.args[0].name_hint], relax.Tuple(arguments)], call.attrs, call.ty_args
        )

    @relax.expr_functor.mutator
    class Repack(relax.PyExprMutator):  # type: ignore[misc]
        def visit_call_(self, call: relax.Call) -> relax.Expr:
            call = super().visit_call_(call)
            return repacked(call) if _calls_one_of(call, packed) else call

    mutator = Repack(mod)
    # New variables: a variable keeps the type of the function that it was made for.
    variables = {name: mutator.builder_.add_func(func, name) for name, func in functions.items()}
    for var, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            mutator.builder_.update_func(var, mutator.visit_expr(function))
    return mutator.builder_.get()
