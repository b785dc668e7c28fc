"""Checks of all GPU kernels of a compiled program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx

from graphopt.codegen.emulate.check import KernelCheck, check_kernel
from graphopt.codegen.emulate.launch import find_launches
from graphopt.codegen.emulate.lowering import LoweredFunction
from graphopt.codegen.schedules.rule import RULE_ATTRIBUTE
from graphopt.codegen.targets import Target
from graphopt.errors import VerificationError
from graphopt.ir.signature import DimRange

_SHOWN = 8


def check_kernels(
    meanings: Mapping[str, tirx.PrimFunc],
    lowered: Mapping[str, LoweredFunction],
    target: Target,
    *,
    dims: Mapping[str, DimRange] | None = None,
    seed: int = 0,
) -> list[KernelCheck]:
    """Check every function that launches kernels; the same code only once.

    Args:
        meanings: the functions before scheduling, by name.
        lowered: the functions as TVM emits them, by name.
        target: the GPUs.
        dims: ranges of the symbolic sizes.
        seed: of the data.
    """
    checks: list[KernelCheck] = []
    seen: dict[int, list[tuple[tirx.PrimFunc, KernelCheck]]] = {}
    for name, function in sorted(lowered.items()):
        if not find_launches(function.emitted):
            continue
        rule = str(function.emitted.attrs.get(RULE_ATTRIBUTE, "runtime"))
        code = tirx.PrimFunc(function.emitted.params, function.emitted.body)
        known = seen.setdefault(int(tvm_ffi.structural_hash(code)), [])
        twin = next((check for other, check in known if tvm_ffi.structural_equal(code, other)), None)
        if twin is not None:
            twin.copies.append(name)
            continue
        if name in meanings:
            check = check_kernel(meanings[name], function, target, name=name, rule=rule, dims=dims, seed=seed)
        else:
            check = KernelCheck(name, rule)
            check.add("not modelled", "nothing says what the kernel computes")
        known.append((code, check))
        checks.append(check)
    return checks


def raise_if_wrong(checks: list[KernelCheck]) -> None:
    """Raise unless every kernel passed.

    Raises:
        VerificationError: GO-5003, with the kernels and what is wrong with each.
    """
    wrong = [(check, finding) for check in checks for finding in check.findings]
    if not wrong:
        return
    kernels = sorted({check.name for check, _ in wrong})
    lines = [f"{check.name} ({check.rule}): {finding}" for check, finding in wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"and {len(wrong) - _SHOWN} more")
    count = f"{len(kernels)} of {len(checks)} GPU kernels failed"
    raise VerificationError("\n  ".join([f"{count} when emulated:", *lines]), code="GO-5003")


def to_rows(checks: list[KernelCheck]) -> list[tuple[str, ...]]:
    """One row a kernel, for a table with the columns :data:`COLUMNS`."""
    return [_row(check) for check in checks]


COLUMNS = (
    "kernel",
    "copies",
    "schedule",
    "emulated",
    "error / allowed",
    "threads",
    "shared bytes",
    "registers",
    "seconds",
)


def _row(check: KernelCheck) -> tuple[str, ...]:
    def most(values: Any) -> str:
        return str(max(values, default=0))

    return (
        check.name,
        str(1 + len(check.copies)),
        check.rule,
        "ok" if check.ok else ", ".join(sorted({f.checker for f in check.findings})),
        "-" if check.ratio is None else f"{check.ratio:.3g}",
        most(r.threads for r in check.resources),
        most(r.static_shared + r.dynamic_shared for r in check.resources),
        most(r.registers for r in check.resources),
        f"{check.seconds:.2f}",
    )
