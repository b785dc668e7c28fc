"""Kernels as the tuner sees them: TensorIR functions before they are scheduled."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tvm
import tvm_ffi
from tvm import relax, tirx

from graphopt.codegen import schedules
from graphopt.codegen.schedules.apply import OWN_SCHEDULE, rules_of
from graphopt.codegen.schedules.blocks import static
from graphopt.codegen.schedules.cpu.retile import PREFIX, Panels, retile
from graphopt.codegen.schedules.decisions import Choice, Decisions
from graphopt.codegen.schedules.rule import RULE_ATTRIBUTE, schedule_function
from graphopt.codegen.targets import Target

_CALL = tvm.ir.Op.get("relax.call_tir")


class Arranged(NamedTuple):
    """A kernel as decided.

    Attributes:
        function: scheduled.
        rule: that scheduled it.
        space: every choice that there was, by name.
        panels: how the kernel's packed operand changes; None: not at all.
    """

    function: tirx.PrimFunc
    rule: str
    space: Mapping[str, Choice]
    panels: Panels | None


@dataclass(frozen=True)
class Kernel:
    """A distinct kernel of a program.

    Attributes:
        key: what its records are found by (:func:`kernel_key`).
        name: of the function, for people.
        function: not scheduled.
        calls: places of the program that call it.
        rule: that schedules it.
        space: its choices, by name; empty when there is nothing to tune.
        skipped: why it cannot be tuned, if it cannot.
    """

    key: str
    name: str
    function: tirx.PrimFunc
    calls: int
    rule: str
    space: Mapping[str, Choice]
    skipped: str | None = None


def arrange(func: tirx.PrimFunc, target: Target, decided: Mapping[str, int] | None = None) -> Arranged:
    """Schedules a kernel as decided; what is not decided has its default.

    Raises:
        UnknownDecision: there is no such choice, or not that value of it.
    """
    decided = decided or {}
    panels = Decisions({k: v for k, v in decided.items() if k.startswith(PREFIX)})
    if target.kind == "cpu":
        func, changed = retile(func, target, panels)
    else:
        changed = None
    panels.check_all_used()
    rest = {k: v for k, v in decided.items() if not k.startswith(PREFIX)}
    scheduled = schedule_function(func, target, rules_of(target), rest)
    return Arranged(scheduled.function, scheduled.rule, {**panels.space, **scheduled.space}, changed)


def find_kernels(mod: tvm.IRModule, target: Target) -> list[Kernel]:
    """The distinct kernels of a module after ``FUSE``, those that occur often or under many names once."""
    calls = _calls(mod)
    found: dict[str, Kernel] = {}
    for var, func in sorted(mod.functions_items(), key=lambda item: item[0].name_hint):
        if not isinstance(func, tirx.PrimFunc) or is_scheduled(func):
            continue
        name, key = var.name_hint, kernel_key(func, target)
        number = calls.get(name, 0)
        if key in found:
            known = found[key]
            number += known.calls
            found[key] = Kernel(key, known.name, func, number, known.rule, known.space, known.skipped)
            continue
        arranged = arrange(func, target)
        space = {name: choice for name, choice in arranged.space.items() if len(choice.options) > 1}
        found[key] = Kernel(key, name, func, number, arranged.rule, space, _why_not(func, space))
    return list(found.values())


def is_scheduled(func: tirx.PrimFunc) -> bool:
    """Whether a kernel came with a schedule, which is then not ours to change."""
    return any(name in (func.attrs or {}) for name in (OWN_SCHEDULE, RULE_ATTRIBUTE))


def kernel_key(func: tirx.PrimFunc, target: Target) -> str:
    """The same for equal functions, whatever their variables are called, on equal targets and rules."""
    for name in dict(func.attrs or {}):
        if name != "tirx.noalias":
            func = func.without_attr(name)
    shapes = [[str(s) for s in p.shape] + [p.dtype] for p in func.params if _is_buffer(p)]
    # Names of symbolic sizes are variables too.
    sizes = [[s if s.isdigit() else "n" for s in shape] for shape in shapes]
    facts = [target_key(target), str(tvm_ffi.structural_hash(func)), sizes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


@functools.cache
def target_key(target: Target) -> str:
    """What a record is valid for beside the function: the CPU, its cores, and our rules as they are now."""
    digest = hashlib.sha256()
    for path in sorted(Path(schedules.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    about = target.to_dict()
    del about["name"]
    facts = [about, tvm.__version__, digest.hexdigest()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def outputs_of(func: tirx.PrimFunc) -> list[int]:
    """Positions of the parameters that the function writes."""
    written: list[Any] = []

    def visit(block: Any) -> None:
        written.extend(region.source for region in block.writes)

    tvm_ffi.structural_walk(func.body, (tvm.s_tir.SBlock, visit))
    return [i for i, p in enumerate(func.params) if any(p.same_as(w) for w in written)]


def _is_buffer(parameter: Any) -> bool:
    return isinstance(parameter.ty, tirx.BufferType)


def _why_not(func: tirx.PrimFunc, space: Mapping[str, Choice]) -> str | None:
    if not space:
        return "nothing to choose"
    if not all(_is_buffer(p) for p in func.params):
        return "takes sizes as arguments"
    if any(static(size) is None for p in func.params for size in p.shape):
        return "symbolic sizes"
    return None


def _calls(mod: tvm.IRModule) -> dict[str, int]:
    counts: dict[str, int] = {}

    def visit(call: Any) -> None:
        if call.op == _CALL:
            name = call.args[0].name_hint
            counts[name] = counts.get(name, 0) + 1

    functions: Iterable[Any] = (f for _, f in mod.functions_items() if isinstance(f, relax.Function))
    for function in functions:
        tvm_ffi.structural_walk(function, (relax.Call, visit))
    return counts
