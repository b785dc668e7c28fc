"""What a verification found, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphopt.errors import VerificationError
from graphopt.verification.rule import Comparison


@dataclass
class OutputCheck:
    """One output on one set of inputs.

    Attributes:
        name: of the output in the signature.
        result: the comparison with the reference.
        float64: the comparison of the two graphs in float64; None unless the candidate is a program.
        signal: largest change of the output between these inputs and others: the part of its values
            that depends on the input.
    """

    name: str
    result: Comparison
    float64: Comparison | None = None
    signal: float = 0.0

    @property
    def ok(self) -> bool:
        return self.result.ok and (self.float64 is None or self.float64.ok)

    @property
    def problem(self) -> str | None:
        if self.result.problem is not None:
            return self.result.problem
        return self.float64.problem if self.float64 is not None else None

    @property
    def worst(self) -> Comparison:
        """The comparison that decides: the failed one, else the one as the candidate runs."""
        if self.result.ok and self.float64 is not None and not self.float64.ok:
            return self.float64
        return self.result

    @property
    def relative_error(self) -> float:
        """Largest error over the part of the output that depends on the input."""
        if self.result.max_error == 0:
            return 0.0
        return self.result.max_error / self.signal if self.signal > 0 else math.inf

    @property
    def blind(self) -> bool:
        """The error allowed is as large as all that the input changes: the comparison proves little."""
        return bool(self.result.ok and 0 < self.signal <= self.result.allowed)

    def to_dict(self) -> dict[str, Any]:
        def comparison(c: Comparison) -> dict[str, Any]:
            return {
                "ok": c.ok,
                "problem": c.problem,
                "max_error": _json(c.max_error),
                "allowed": _json(c.allowed),
                "ratio": _json(c.ratio),
                "worst_index": list(c.index) if c.index is not None else None,
                "expected": _json(c.expected),
                "got": _json(c.got),
                "noise": _json(c.noise),
                "eager_error": _json(c.eager_error),
                "scale": _json(c.scale),
                "elements": c.elements,
                "unstable": c.unstable,
                "mismatches": c.mismatches,
                "flips_allowed": c.forgiven,
            }

        return {
            "name": self.name,
            **comparison(self.result),
            "ok": self.ok,
            "problem": self.problem,
            "signal": _json(self.signal),
            "relative_error": _json(self.relative_error),
            "blind": self.blind,
            "float64": comparison(self.float64) if self.float64 is not None else None,
        }


@dataclass
class DrawCheck:
    """One set of inputs.

    Attributes:
        source: how the inputs were drawn, or where they come from.
        seed: that draws them again (:func:`graphopt.verification.inputs.draw_inputs`).
        sizes: of the symbolic dimensions.
        shapes: of the inputs.
        outputs: one an output; empty for a ``Lossy`` contract.
        runs: perturbed runs behind the noise (K); 0 where no noise was measured.
        confirmed: of a failure: how many of the fresh inputs failed too, and how many were tried;
            None when inputs are the user's or nothing failed.
        redrawn: draws thrown away before, because rounding decided too much of their outputs.
        emulated: nodes of the reference that have no float64 kernel.
    """

    source: str
    seed: int | None
    sizes: Mapping[str, int]
    shapes: list[list[int]]
    outputs: list[OutputCheck] = field(default_factory=list)
    runs: int = 0
    confirmed: tuple[int, int] | None = None
    redrawn: int = 0
    emulated: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(o.ok for o in self.outputs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "seed": self.seed,
            "sizes": dict(self.sizes),
            "shapes": self.shapes,
            "runs": self.runs,
            "confirmed": list(self.confirmed) if self.confirmed is not None else None,
            "redrawn": self.redrawn,
            "emulated": self.emulated,
            "outputs": [o.to_dict() for o in self.outputs],
        }


@dataclass
class MetricCheck:
    """One metric of a ``Lossy`` contract: its mean over the batches, against the budget."""

    name: str
    value: float
    budget: float
    batches: int

    @property
    def ok(self) -> bool:
        return self.value <= self.budget  # False for NaN


@dataclass
class VerificationReport:
    """All that a verification found.

    Attributes:
        contract: in words.
        candidate: what was verified, in words.
        draws: one a set of inputs.
        metrics: of a ``Lossy`` contract.
        notes: what limits the verdict and the reader should know.
        inconclusive: names of outputs of which not one element could be compared.
    """

    contract: str
    candidate: str
    draws: list[DrawCheck] = field(default_factory=list)
    metrics: list[MetricCheck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inconclusive: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everything that was compared is right, and every output was compared."""
        checked = bool(self.draws) or bool(self.metrics)
        return checked and not self.inconclusive and not self.failures and all(m.ok for m in self.metrics)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def failures(self) -> list[tuple[DrawCheck, OutputCheck]]:
        return [(d, o) for d in self.draws for o in d.outputs if not o.ok]

    @property
    def outputs(self) -> list[OutputCheck]:
        """Each output's worst check over all inputs, in the signature's order."""
        worst: dict[str, OutputCheck] = {}
        for draw in self.draws:
            for check in draw.outputs:
                before = worst.get(check.name)
                if before is None or _badness(check) > _badness(before):
                    worst[check.name] = check
        return list(worst.values())

    def raise_if_failed(self) -> VerificationReport:
        """Returns the report itself when all is well.

        Raises:
            VerificationError: GO-5000 for differing results, GO-5001 for a budget exceeded.
        """
        if not self.ok:
            raise self.error()
        return self

    def error(self) -> VerificationError:
        """The error for this failed verification: GO-5000, or GO-5001 for a budget exceeded."""
        over = [m for m in self.metrics if not m.ok]
        if over:
            lines = [f"{m.name} is {m.value:.4g}, the budget is {m.budget:g}" for m in over]
            return VerificationError(
                f"{self.candidate} exceeds its budget: " + "; ".join(lines), code="GO-5001"
            )
        return VerificationError(self.explanation(), hint=self._hint())

    def explanation(self) -> str:
        """The failure in a few lines: which output, which element, on which input."""
        failures = self.failures
        if not failures:
            if self.inconclusive:
                names = ", ".join(self.inconclusive)
                return f"nothing could be compared of {names}: rounding decides every value"
            return "nothing was compared"
        draw, check = max(failures, key=lambda f: _badness(f[1]))
        worst = check.worst
        failed = list(dict.fromkeys(o.name for _, o in failures))
        lines = [f"{self.candidate} does not compute the same ({self.contract}): {', '.join(failed)}"]
        lines.append(f"output {check.name!r}: {check.problem}")
        if worst.index is not None:
            lines.append(
                f"at {list(worst.index)}: expected {_number(worst.expected)}, got {_number(worst.got)}"
                + (f", allowed error {worst.allowed:.3g}" if worst.allowed else "")
            )
        if math.isfinite(worst.ratio) and worst.ratio:
            lines.append(
                f"{worst.ratio:.3g} times the error allowed "
                f"(noise {worst.noise:.3g}, eager {worst.eager_error:.3g})"
            )
        inputs = ", ".join(f"{n}={s}" for n, s in draw.sizes.items())
        shapes = " ".join(str(s) for s in draw.shapes)
        seed = f" with seed {draw.seed}" if draw.seed is not None else ""
        lines.append(f"inputs: {draw.source}{seed}, shapes {shapes}" + (f", {inputs}" if inputs else ""))
        if draw.confirmed is not None:
            lines.append("fails on {} of {} fresh inputs too".format(*draw.confirmed))
        return "\n  ".join(lines)

    def _hint(self) -> str | None:
        draw = next((d for d, _ in self.failures if d.seed is not None), None)
        if draw is None:
            return None
        sizes = f", sizes={dict(draw.sizes)}" if draw.sizes else ""
        return f"draw_inputs(program, kind={draw.source!r}, seed={draw.seed}{sizes}) draws the inputs again"

    def rows(self) -> Iterator[tuple[str, str, str, str, str, str]]:
        """Rows for a table: see :data:`COLUMNS`."""
        for check in self.outputs:
            worst = check.worst
            yield (
                check.name,
                "ok" if check.ok else "FAILED",
                f"{worst.max_error:.2e}",
                f"{worst.allowed:.2e}",
                f"{worst.ratio:.3g}",
                f"{worst.unstable}/{worst.elements}" if worst.unstable else "",
            )
        for metric in self.metrics:
            status = "ok" if metric.ok else "FAILED"
            ratio = metric.value / metric.budget if metric.budget else math.inf if metric.value else 0.0
            yield (metric.name, status, f"{metric.value:.4g}", f"{metric.budget:.4g}", f"{ratio:.3g}", "")

    def summary(self) -> str:
        """One line: verdict, contract, what was run, the largest error."""
        if self.metrics:
            parts = [f"{m.name} {m.value:.4g} of {m.budget:g}" for m in self.metrics]
            return f"{'ok' if self.ok else 'FAILED'}: {self.contract}: {', '.join(parts)}"
        ratio = max((o.worst.ratio for o in self.outputs), default=0.0)
        k = min((d.runs for d in self.draws), default=0)
        noise = f", K={k}" if k else ""
        return (
            f"{'ok' if self.ok else 'FAILED'}: {self.contract}, {len(self.draws)} inputs{noise}, "
            f"largest error {ratio:.3g} of what is allowed"
        )

    def to_dict(self) -> dict[str, Any]:
        """A form that ``json.dumps`` takes; NaN and infinities become strings."""
        return {
            "ok": self.ok,
            "contract": self.contract,
            "candidate": self.candidate,
            "outputs": [o.to_dict() for o in self.outputs],
            "metrics": [
                {
                    "name": m.name,
                    "value": _json(m.value),
                    "budget": m.budget,
                    "batches": m.batches,
                    "ok": m.ok,
                }
                for m in self.metrics
            ],
            "draws": [d.to_dict() for d in self.draws],
            "notes": self.notes,
            "inconclusive": self.inconclusive,
        }

    def __str__(self) -> str:
        return self.summary() if self.ok else f"{self.summary()}\n  {self.explanation()}"


COLUMNS = ("output", "verdict", "error", "allowed", "error/allowed", "unstable")
"""Headings of :meth:`VerificationReport.rows`."""


def _badness(check: OutputCheck) -> tuple[bool, float]:
    return not check.ok, check.worst.ratio


def _json(value: Any) -> Any:
    if isinstance(value, complex):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _number(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
