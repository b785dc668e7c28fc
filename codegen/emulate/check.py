"""Checks of one GPU kernel: limits, synchronisation, and what it computes when a CPU runs it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tvm import tirx

from graphopt.codegen.emulate.accesses import FIELDS
from graphopt.codegen.emulate.execute import build_on_cpu, computed_on_cpu, lower_for_cpu
from graphopt.codegen.emulate.inputs import Sizes, choose_sizes, draw
from graphopt.codegen.emulate.launch import Launch, find_launches, grid_at
from graphopt.codegen.emulate.limits import Resources, exceeded, resources
from graphopt.codegen.emulate.lowering import LoweredFunction
from graphopt.codegen.emulate.memory import NotModelled
from graphopt.codegen.emulate.reference import in_float64, outputs_of
from graphopt.codegen.emulate.serial import Divergent, SerialFunction, serialise
from graphopt.codegen.emulate.synchronization import find_races
from graphopt.codegen.targets import Target
from graphopt.ir.signature import DimRange
from graphopt.verification.noise import PERTURBATION, OutputNoise, output_noise
from graphopt.verification.rule import Comparison, compare

_RUNS = 8
_FEW_RUNS = 4
_SLOW_SECONDS = 2.0
"""A reference that takes longer is perturbed fewer times."""


Inputs = list[torch.Tensor | int]
"""An argument for each parameter of a function."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with a kernel.

    Attributes:
        checker: ``limits``, ``synchronization``, ``divergence``, ``bounds``, ``alignment``, ``race``,
            ``results`` or ``not modelled``.
        message: what is wrong, and where.
    """

    checker: str
    message: str

    def __str__(self) -> str:
        return f"{self.checker}: {self.message}"


@dataclass
class KernelCheck:
    """What the checks of one function found.

    Attributes:
        name: the function's symbol.
        rule: the schedule rule that made it.
        resources: what each launch uses.
        findings: what is wrong; empty when all is well.
        ratio: largest error over what the noise rule allows, of all outputs; None if it did not run.
        sizes: values of its symbolic sizes.
        seconds: time of the checks.
        copies: names of other functions of the module with the same code.
    """

    name: str
    rule: str
    resources: list[Resources] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    ratio: float | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    copies: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def add(self, checker: str, message: str) -> None:
        self.findings.append(Finding(checker, message))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {
            "name": self.name,
            "rule": self.rule,
            "ok": self.ok,
            "ratio": self.ratio,
            "launches": [vars(r) for r in self.resources],
            "sizes": self.sizes,
            "findings": [{"checker": f.checker, "message": f.message} for f in self.findings],
            "copies": self.copies,
            "seconds": round(self.seconds, 3),
        }


def check_kernel(
    meaning: tirx.PrimFunc,
    lowered: LoweredFunction,
    target: Target,
    *,
    name: str = "main",
    rule: str = "own",
    dims: Mapping[str, DimRange] | None = None,
    seed: int = 0,
) -> KernelCheck:
    """Check a GPU function against the unscheduled function that it has to compute.

    Args:
        meaning: the function before scheduling.
        lowered: the function as TVM emits it, see :mod:`graphopt.codegen.emulate.lowering`.
        target: the GPUs; every one of its architectures has to be able to run it.
        dims: ranges of the symbolic sizes, by name.
        seed: of the data.
    """
    started = time.perf_counter()
    result = KernelCheck(name, rule)
    try:
        sizes = choose_sizes(meaning, dims or {})
        result.sizes = sizes.values
        launches = find_launches(lowered.emitted)
        result.resources = [resources(launch) for launch in launches]
        _check_statically(result, lowered.emitted, launches, sizes, target)
        serial = serialise(lowered.separate, sizes.values)
        _run(result, meaning, serial, sizes, seed)
    except NotModelled as reason:
        result.add("not modelled", str(reason))
    except Divergent as reason:
        result.add("divergence", str(reason))
    result.seconds = time.perf_counter() - started
    return result


def _check_statically(
    result: KernelCheck, lowered: tirx.PrimFunc, launches: list[Launch], sizes: Sizes, target: Target
) -> None:
    for launch in launches:
        grid = grid_at(lowered, launch, sizes.values)
        for architecture in target.gpu_architectures:
            for message in exceeded(launch, grid, architecture):
                result.add("limits", message)
        for race in find_races(lowered, launch, sizes.values):
            result.add("synchronization", str(race))


def _run(
    result: KernelCheck, meaning: tirx.PrimFunc, serial: SerialFunction, sizes: Sizes, seed: int
) -> None:
    plain = lower_for_cpu(meaning)
    written = outputs_of(plain)
    built = build_on_cpu(
        {
            "kernel": computed_on_cpu(serial.func),
            "plain": computed_on_cpu(plain),
            "reference": in_float64(plain),
        }
    )
    for kind in ("normal", "uniform"):
        inputs = draw(meaning, sizes, kind, seed)
        noise = _measure(built, inputs, written, seed)
        if kind == "normal" and _mostly_undefined(noise):
            continue
        _compare(result, built["kernel"], serial, inputs, written, noise)
        return


def _measure(built: dict[str, Any], inputs: Inputs, written: list[int], seed: int) -> list[OutputNoise]:
    """Reference and noise of every output."""
    eager = _copies(inputs)
    built["plain"](*eager)

    def wide_run(amount: float, number: int) -> list[torch.Tensor]:
        wide: Inputs = _copies(
            [t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in inputs]
        )
        built["reference"](*wide, amount, seed * 1_000_003 + number)
        return [t for t in (wide[i] for i in written) if isinstance(t, torch.Tensor)]

    started = time.perf_counter()
    nominal = wide_run(0.0, 0)
    runs = _FEW_RUNS if time.perf_counter() - started > _SLOW_SECONDS else _RUNS
    # Run 1 mirrors run 0: a decision that hangs on one rounding flips in one of them.
    perturbed = [wide_run(PERTURBATION * (-1.0 if k == 0 else 1.0), max(k, 1)) for k in range(runs)]
    return [output_noise(eager[i], nominal[n], (run[n] for run in perturbed)) for n, i in enumerate(written)]


def _copies(inputs: Inputs) -> list[Any]:
    return [t.clone() if isinstance(t, torch.Tensor) else t for t in inputs]


def _mostly_undefined(noise: list[OutputNoise]) -> bool:
    """Roots and logarithms of negative numbers make a comparison prove little."""
    return any(
        n.is_float and n.reference.numel() > 0 and float(n.reference.isnan().double().mean()) > 0.25
        for n in noise
    )


def _compare(
    result: KernelCheck,
    kernel: Any,
    serial: SerialFunction,
    inputs: Inputs,
    written: list[int],
    noise: list[OutputNoise],
) -> None:
    """Runs the kernel in both orders."""
    outputs: list[list[torch.Tensor]] = []
    for backwards in (0, 1):
        tensors = _copies(inputs)
        records = torch.zeros(max(1, FIELDS * len(serial.faults.sites)), dtype=torch.int64)
        kernel(*tensors, backwards, records)
        _report_faults(result, serial, records)
        outputs.append([tensors[i] for i in written])
        if not result.ok:
            break
    ratios = []
    for position, index in enumerate(written):
        parameter = str(serial.func.params[index].name)
        for run in outputs:
            comparison = compare(run[position], noise[position])
            ratios.append(comparison.ratio)
            if not comparison.ok:
                result.add("results", f"output {parameter}: {_described(comparison)}")
                break
        else:
            if not all(_same_bits(run[position], outputs[0][position]) for run in outputs):
                result.add("race", f"output {parameter} depends on the order in which threads run")
    result.ratio = max(ratios, default=0.0)


def _described(comparison: Comparison) -> str:
    where = "" if comparison.index is None else f", such as {list(comparison.index)}"
    return f"{comparison.problem}{where}: {comparison.got} instead of {comparison.expected}"


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _report_faults(result: KernelCheck, serial: SerialFunction, records: torch.Tensor) -> None:
    seen: set[tuple[str, str]] = set()
    for site, (count, index, block, thread) in zip(
        serial.faults.sites, records.reshape(-1, FIELDS).tolist(), strict=False
    ):
        if not count or (site.kind, site.buffer) in seen:
            continue
        seen.add((site.kind, site.buffer))
        size = "" if site.size is None else f" of {site.size} elements"
        result.add(
            site.kind,
            f"{site.buffer}{size}, index {index} in block {block}, thread {thread}: {site.access}",
        )
