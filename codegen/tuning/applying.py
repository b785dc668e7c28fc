"""The records of tuning in a compilation: between fusion and scheduling."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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

    def warnings(self) -> list[str]:
        """For the user, about each refused kernel."""
        return [
            f"kernel {name} has a tuned schedule that does not fit it and runs the default one: {reason}"
            for name, reason in self.refused.items()
        ]


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
    mod = tvm.IRModule(dict(mod.functions_items()), attrs=mod.attrs)
    for var, func in functions.items():
        mod.update_func(var, func)
    if packed:
        _repack(mod, packed)
    return mod, applied


def _require_constants(mod: tvm.IRModule, name: str, panels: Panels) -> None:
    """Raises :class:`UnknownDecision` where a call passes something else than a constant as weights."""

    def check(call: relax.Call) -> relax.Call:
        if not isinstance(call.args[1].fields[panels.parameter], tvm.ir.GenericConst):
            raise UnknownDecision("its weights are no constants here")
        return call

    for _, function in mod.functions_items():
        if isinstance(function, relax.Function):
            _each_call(function, {name}, check)


def _repack(mod: tvm.IRModule, packed: Mapping[str, Panels]) -> None:
    """Give every call of the kernels its weights in their new panels; equal constants stay one."""
    constants: dict[tuple[int, Panels], Any] = {}

    def repacked(call: relax.Call) -> relax.Call:
        panels = packed[call.args[0].name_hint]
        arguments = list(call.args[1].fields)
        weights = arguments[panels.parameter]
        key = int(weights.data.numpy().__array_interface__["data"][0]), panels
        if key not in constants:
            array: np.ndarray = panels.repack(weights.data.numpy())
            constants[key] = relax.const(tvm.runtime.tensor(array), str(array.dtype))
        arguments[panels.parameter] = constants[key]
        return relax.Call(
            call.op, [call.args[0], relax.Tuple(arguments), *call.args[2:]], call.attrs, call.ty_args
        )

    for var, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            mod.update_func(var, _each_call(function, packed.keys(), repacked))


def _each_call(function: relax.Function, names: Any, change: Callable[[relax.Call], relax.Call]) -> Any:
    """The function with every call of the kernels called ``names`` changed."""

    def visit(call: Any) -> Any:
        return change(call) if call.op == _CALL and call.args[0].name_hint in names else call

    return tvm_ffi.structural_map(function, (relax.Call, visit))
