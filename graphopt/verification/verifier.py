"""``verify``: does a candidate compute what its contract promises?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from graphopt.contract import (
    BitExact,
    Bounded,
    Equivalence,
    Exact,
    ExactWhen,
    Lossy,
    Precondition,
)
from graphopt.errors import GraphoptError, InputError, VerificationError
from graphopt.ir.program import Program
from graphopt.verification.bounds import bounds_of
from graphopt.verification.cache import NoiseOf
from graphopt.verification.constants import has_new_constants
from graphopt.verification.inputs import KINDS, Batch, Draw, draw_inputs, load_inputs, size_assignments
from graphopt.verification.metrics import metric_named
from graphopt.verification.noise import Noise, OutputNoise
from graphopt.verification.reference import Float64Interpreter, run_eagerly
from graphopt.verification.report import DrawCheck, MetricCheck, OutputCheck, VerificationReport
from graphopt.verification.rule import compare, compare_bits, compare_in_float64
from graphopt.verification.runners import describe, runner_of
from graphopt.verification.screening import run_candidate, screen

MAX_UNSTABLE_FRACTION = 0.1
"""Inputs on which rounding decides more of an output than this are drawn again."""

_REDRAWS = 3
_CONFIRMATION_SCALES = (-2, 0, 2)
"""A failure is tried again on fresh inputs, scaled by these powers of two."""

_CERTAIN_RATIO = 64.0
"""No noise is off by this factor: such an error counts even if fresh inputs do not show it."""


def verify(
    reference: Program | fx.GraphModule,
    candidate: Any,
    *,
    contract: Equivalence | None = None,
    inputs: str | os.PathLike[str] | Batch | Sequence[Batch] | None = None,
    draws: int = 3,
    seed: int = 0,
    shapes: Sequence[Mapping[str, int]] | None = None,
    runs: int | None = None,
    quick: bool = False,
) -> VerificationReport:
    """Compares a candidate with a reference under a contract.

    Args:
        reference: the program that says what is right.
        candidate: a program, an artifact, an :class:`~graphopt.verification.runners.OnnxRuntimeRunner`
            or any callable that takes the flat input tensors and returns tensors or arrays.
        contract: what the candidate promises; default :class:`~graphopt.contract.Exact`.
        inputs: the user's data (:func:`~graphopt.verification.inputs.load_inputs`); None draws it.
        draws: how many sets of inputs to draw; their kinds go through
            :data:`~graphopt.verification.inputs.KINDS`.
        seed: of the draws and the perturbations; equal seeds give equal reports.
        shapes: sizes of the symbolic dimensions to check, in turn; None: the captured sizes, then
            others within the declared ranges.
        runs: perturbed runs for the noise (K); None: 8, or 4 for very large graphs.
        quick: stop measuring noise as soon as no further run could change the verdict
            (:mod:`graphopt.verification.screening`).  The report then lacks ``signal``, and ``noise`` is
            that of the runs made.

    The first set of inputs on which the candidate fails ends the verification.

    Returns:
        The report; ``report.raise_if_failed()`` turns a failure into an error.

    Raises:
        InputError: the inputs do not fit the reference, or the reference cannot run on them.
        VerificationError: the candidate cannot run, or (GO-5002) given inputs violate a precondition.
    """
    contract = contract if contract is not None else Exact()
    program = reference if isinstance(reference, Program) else _as_program(reference, inputs)
    if isinstance(candidate, Program) and len(candidate.signature.inputs) != len(program.signature.inputs):
        raise InputError(
            f"the candidate takes {len(candidate.signature.inputs)} inputs, "
            f"the reference {len(program.signature.inputs)}",
            code="GO-3010",
            hint="pass a callable that maps the reference's inputs to the candidate's",
        )
    session = _Verification(program, candidate, contract, seed, runs, quick)
    given = load_inputs(inputs, program.signature) if inputs is not None else None
    if given is not None:
        session.require(given)
    draw_iterator = iter(given) if given is not None else session.draws(draws, shapes)
    if isinstance(contract, Lossy):
        session.check_metrics(draw_iterator, contract)
    else:
        for draw in draw_iterator:
            session.check_if_possible(draw, free=given is None and shapes is None)
            if session.report.failures:
                break
    return session.finish()


class _Verification:
    """State of one call of :func:`verify`."""

    def __init__(
        self,
        program: Program,
        candidate: Any,
        contract: Equivalence,
        seed: int,
        runs: int | None,
        quick: bool = False,
    ) -> None:
        self.program = program
        self.candidate = candidate
        self.contract = contract
        self.seed = seed
        self.runs = runs
        self.quick = quick
        self.run = runner_of(candidate)
        self.names = [s.name for s in program.signature.outputs]
        self.report = VerificationReport(str(contract), describe(candidate))
        self.folded = isinstance(candidate, Program) and has_new_constants(candidate, program)
        self.compared: set[str] = set()
        self.noise_of = NoiseOf(program)

    # -- inputs ------------------------------------------------------------------------------

    @property
    def preconditions(self) -> tuple[Precondition, ...]:
        return getattr(self.contract, "preconditions", ())

    def require(self, given: Sequence[Draw]) -> None:
        """Raises if the user's data violates a precondition."""
        for draw in given:
            for condition in self.preconditions:
                if condition.holds is not None and not condition.holds(self.program, draw.tensors):
                    raise VerificationError(
                        f"{draw.source} violates the precondition: {condition.text}", code="GO-5002"
                    )

    def draws(self, count: int, shapes: Sequence[Mapping[str, int]] | None) -> Iterator[Draw]:
        if count < 1:
            raise InputError(f"draws must be at least 1, not {count}")
        sizes = itertools.cycle(shapes) if shapes else size_assignments(self.program)
        total = max(count, len(shapes or ()))
        for i, assignment in zip(range(total), sizes, strict=False):
            yield self.draw(KINDS[i % len(KINDS)], self.seed * 10_007 + i, assignment)

    def draw(self, kind: str, seed: int, sizes: Mapping[str, int], scale: float = 1.0) -> Draw:
        for attempt in range(64):
            found = draw_inputs(
                self.program, seed=seed + 104_729 * attempt, kind=kind, sizes=sizes, scale=scale
            )
            for condition in self.preconditions:
                if condition.restrict is not None:
                    found = replace(found, tensors=tuple(condition.restrict(found.tensors)))
            if all(c.holds is None or c.holds(self.program, found.tensors) for c in self.preconditions):
                return found
        raise InputError(
            f"64 draws gave no inputs with: {' and '.join(map(str, self.preconditions))}",
            hint="give inputs=, or a precondition that restricts draws",
        )

    # -- checks ------------------------------------------------------------------------------

    def check_if_possible(self, draw: Draw, *, free: bool) -> None:
        """Checks one set of inputs; sizes of our own choice (``free``) may be ones that do not work.

        A graph may need more of its sizes than its signature says (at least a kernel's width).
        """
        try:
            self.check(draw)
        except InputError as error:
            if not free or not draw.sizes or not self.report.draws:
                raise
            sizes = ", ".join(f"{n}={s}" for n, s in draw.sizes.items())
            self.report.notes.append(f"the reference does not run with {sizes}: {error.message}")

    def check(self, draw: Draw) -> None:
        """Checks one set of inputs and, if they were drawn, confirms a failure on fresh ones."""
        drawn = draw.seed is not None
        early = self._screened(draw) if self.quick else None
        if early is not None:
            self.report.draws.append(early)
            self.compared |= {o.name for o in early.outputs}
            return
        check, noise = self._measure(draw)
        while drawn and noise is not None and check.redrawn < _REDRAWS and _too_unstable(noise):
            redrawn = check.redrawn + 1
            draw = self.draw(
                draw.source, self.seed * 10_007 + 611_953 * redrawn + len(self.report.draws), draw.sizes
            )
            check, noise = self._measure(draw)
            check.redrawn = redrawn
        if not check.ok and noise is not None:
            check = self._confirm(draw, check, drawn)
        self.report.draws.append(check)
        self.compared |= {o.name for o in check.outputs if not o.result.inconclusive}

    def _screened(self, draw: Draw) -> DrawCheck | None:
        """The check of one set of inputs, if few runs suffice to accept it."""
        if isinstance(self.contract, BitExact):
            return None
        measurement = self.noise_of.begin(draw.tensors, seed=self.seed)
        try:
            ran = run_candidate(self.candidate, self.run, draw.tensors, self._comparable_in_float64)
        except GraphoptError:
            return None  # measured again in full, where the error is explained
        extra = bounds_of(self.contract, self.program, draw.tensors)
        results = screen(measurement, ran, extra, folded=self.folded, runs=self.runs)
        if results is None:
            self.noise_of.complete(measurement, runs=self.runs)
            return None
        check = DrawCheck(draw.source, draw.seed, draw.sizes, draw.shapes, runs=measurement.runs)
        check.emulated = measurement.emulated
        check.outputs = [OutputCheck(n, r) for n, r in zip(self.names, results, strict=True)]
        return check

    @property
    def _comparable_in_float64(self) -> bool:
        return isinstance(self.candidate, Program) and isinstance(self.contract, Exact | ExactWhen | Bounded)

    def _measure(
        self, draw: Draw, *, runs: int | None = None, seed: int | None = None
    ) -> tuple[DrawCheck, Noise | None]:
        check = DrawCheck(draw.source, draw.seed, draw.sizes, draw.shapes)
        if isinstance(self.contract, BitExact):
            expected, got = self._bit_exact_reference(draw), self.run(draw.tensors)
            self._same_number(len(got), len(expected))
            for name, y, want in zip(self.names, got, expected, strict=True):
                check.outputs.append(OutputCheck(name, compare_bits(y, want)))
            return check, None
        noise = self.noise_of(
            draw.tensors,
            runs=runs if runs is not None else self.runs,
            seed=self.seed if seed is None else seed,
        )
        got = self.run(draw.tensors)
        self._same_number(len(got), len(noise.outputs))
        check.runs, check.emulated = noise.runs, noise.emulated
        extra = bounds_of(self.contract, self.program, draw.tensors)
        in_float64 = self._candidate_in_float64(draw)
        baseline = self._baseline(draw)
        for i, (name, y) in enumerate(zip(self.names, got, strict=True)):
            output = OutputCheck(name, compare(y, noise.outputs[i], extra=extra[i]))
            if in_float64 is not None and output.result.ok:
                output.float64 = compare_in_float64(
                    in_float64[i], noise.outputs[i], folded=self.folded, extra=extra[i]
                )
            output.signal = _signal(noise.outputs[i], baseline[i])
            check.outputs.append(output)
        return check, noise

    def _confirm(self, draw: Draw, check: DrawCheck, drawn: bool) -> DrawCheck:
        """Measures the noise again with more runs; then looks whether fresh inputs fail too."""
        if _worst_ratio(check) < _CERTAIN_RATIO:
            before, check = check, self._measure(draw, runs=4 * check.runs, seed=self.seed + 7919)[0]
            check.redrawn = before.redrawn
            if check.ok:
                self.report.notes.append(
                    f"{draw}: an error beyond the allowance with K={before.runs} "
                    f"is within it with K={check.runs}"
                )
                return check
        if not drawn:
            return check
        failed = 0
        for i, exponent in enumerate(_CONFIRMATION_SCALES):
            kind = draw.source if draw.source not in ("zeros", "constant") else "normal"
            fresh = self.draw(kind, self.seed * 10_007 + 15_485_863 + i, draw.sizes, scale=2.0**exponent)
            failed += not self._measure(fresh)[0].ok
        check.confirmed = (failed, len(_CONFIRMATION_SCALES))
        if failed == 0 and _worst_ratio(check) < _CERTAIN_RATIO:
            self.report.notes.append(
                f"{draw}: an error of {_worst_ratio(check):.3g} times the allowance did not come back on "
                f"{len(_CONFIRMATION_SCALES)} fresh inputs and is not counted as a failure"
            )
            for output in check.outputs:
                output.result.problem = None
                if output.float64 is not None:
                    output.float64.problem = None
        return check

    def _bit_exact_reference(self, draw: Draw) -> tuple[Tensor, ...]:
        assert isinstance(self.contract, BitExact)
        return runner_of(self.contract.reference or self.program)(draw.tensors)

    def _same_number(self, got: int, expected: int) -> None:
        if got != expected:
            raise VerificationError(
                f"{self.report.candidate} returns {got} outputs, the reference {expected}"
            )

    def _candidate_in_float64(self, draw: Draw) -> tuple[Tensor, ...] | None:
        if not self._comparable_in_float64:
            return None
        module = self.candidate.graph_module
        _, dtypes = run_eagerly(module, draw.tensors)
        interpreter = Float64Interpreter(module, dtypes)
        outputs = interpreter.run_in_float64(draw.tensors)
        return None if interpreter.emulated else outputs

    def _baseline(self, draw: Draw) -> tuple[Tensor, ...]:
        """The reference on other inputs of the same shapes."""
        if draw.seed is None:
            other: Sequence[Tensor] = [t.flip(tuple(range(t.dim()))) for t in draw.tensors]
        else:
            other = self.draw("normal", draw.seed + 32_452_843, draw.sizes).tensors
        return run_eagerly(self.program.graph_module, other)[0]

    def check_metrics(self, draws: Iterator[Draw], contract: Lossy) -> None:
        """Means of the metrics over the batches."""
        sums = dict.fromkeys((b.name for b in contract.budgets), 0.0)
        batches = 0
        for draw in draws:
            _, dtypes = run_eagerly(self.program.graph_module, draw.tensors)
            expected = Float64Interpreter(self.program.graph_module, dtypes).run_in_float64(draw.tensors)
            got = self.run(draw.tensors)
            self._same_number(len(got), len(expected))
            for name, y, want in zip(self.names, got, expected, strict=True):
                if y.shape != want.shape:
                    raise VerificationError(
                        f"output {name!r} has shape {list(y.shape)}, expected {list(want.shape)}"
                    )
            for budget in contract.budgets:
                metric = metric_named(budget.metric) if isinstance(budget.metric, str) else budget.metric
                sums[budget.name] += float(metric(expected, got))
            batches += 1
            self.report.draws.append(DrawCheck(draw.source, draw.seed, draw.sizes, draw.shapes))
        for budget in contract.budgets:
            self.report.metrics.append(
                MetricCheck(budget.name, sums[budget.name] / batches, budget.limit, batches)
            )

    def finish(self) -> VerificationReport:
        report = self.report
        if not isinstance(self.contract, BitExact | Lossy):
            report.inconclusive = [n for n in self.names if n not in self.compared]
        emulated = sorted({n for d in report.draws for n in d.emulated})
        if emulated:
            report.notes.append(
                f"no float64 kernel, reference in the graph's own precision: {', '.join(emulated)}"
            )
        blind = [o.name for o in report.outputs if o.blind]
        if blind:
            report.notes.append(
                f"the error allowed is as large as what the inputs change in: {', '.join(blind)}"
            )
        if self.folded:
            report.notes.append(
                "constants were folded: float64 runs are compared up to one rounding of the weights"
            )
        return report


def _too_unstable(noise: Noise) -> bool:
    return any(o.unstable_fraction > MAX_UNSTABLE_FRACTION for o in noise.outputs)


def _worst_ratio(check: DrawCheck) -> float:
    return max((o.worst.ratio for o in check.outputs if not o.ok), default=0.0)


def _signal(noise: OutputNoise, baseline: Tensor) -> float:
    if not noise.is_float or baseline.shape != noise.reference.shape:
        return 0.0
    change = (noise.reference - baseline.to(noise.reference.dtype)).abs()
    change = change[change.isfinite() & ~noise.unstable]
    return float(change.detach().max()) if change.numel() else 0.0


def _as_program(module: fx.GraphModule, inputs: Any) -> Program:
    values = [n.meta.get("val") for n in module.graph.find_nodes(op="placeholder")]
    if any(v is None for v in values):
        if not isinstance(inputs, Sequence) or not all(isinstance(t, Tensor) for t in inputs):
            raise InputError("a graph module without shapes needs inputs=: one tensor a placeholder")
        values = list(inputs)
    copied = fx.GraphModule(module, torch.fx.Graph())
    copied.graph = fx.Graph()
    copied.graph.output(copied.graph.graph_copy(module.graph, {}))
    return Program.from_graph_module(copied, values)
