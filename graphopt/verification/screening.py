"""Accepts a right result before all of its noise is measured, with the verdict of the full rule.

Nearly all comparisons end well, and eight perturbed runs are most of their cost.  Here the runs are made
one at a time, and an output is accepted after ``k`` of them where every element satisfies

    |y - y64|  <=  8 N_k + 4 |eager - y64| + u |y64|

with the element's own noise, eager error and size.  That implies both lines of the rule
(:mod:`graphopt.verification.rule`) after all K runs, since ``N_k`` only grows with ``k`` and the
maxima of the first line are no less than an element's own terms; nor does it matter which elements turn
out to be unstable, because all are right.  Integers have to equal the float64 run's.  The float64
comparison is screened in the same way, by the element's size in the place of the output's.

What cannot be accepted is measured in full, going on from the runs made.  One verdict differs: an
output of which rounding decides every element is *inconclusive* in full, and accepted here if its
elements satisfy the line above all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphopt.ir.program import Program
from graphopt.verification.noise import NoiseMeasurement
from graphopt.verification.reference import Float64Interpreter, run_eagerly, unit_roundoff
from graphopt.verification.rule import (
    EAGER_FACTOR,
    FLOAT64_RELATIVE,
    NOISE_FACTOR,
    Comparison,
    differ_in_kind,
)
from graphopt.verification.runners import Runner

_ONLY_NOISE = 1e-4
"""An output no larger than this fraction of its errors may be zero in exact arithmetic: measured in full."""


@dataclass(frozen=True)
class Ran:
    """What a candidate gave: its outputs, and those in float64 where they can be compared."""

    outputs: tuple[Tensor, ...]
    in_float64: tuple[Tensor, ...] | None


def run_candidate(candidate: Any, run: Runner, inputs: Sequence[Tensor], in_float64: bool) -> Ran:
    """Runs a candidate once, and in float64 if asked and it has kernels for that.

    Raises:
        GraphoptError: it does not run.
    """
    if not isinstance(candidate, Program):
        return Ran(run(inputs), None)
    module = candidate.graph_module
    outputs, dtypes = run_eagerly(module, inputs)
    if not in_float64:
        return Ran(outputs, None)
    interpreter = Float64Interpreter(module, dtypes)
    wide = interpreter.run_in_float64(inputs)
    return Ran(outputs, None if interpreter.emulated else wide)


def screen(
    measurement: NoiseMeasurement,
    ran: Ran,
    extra: Sequence[Tensor | float],
    *,
    folded: bool,
    runs: int | None = None,
) -> list[Comparison] | None:
    """The comparisons of all outputs, once they can be accepted; None if the full rule has to decide.

    Args:
        measurement: of the reference; it is left with the runs that were needed.
        ran: the candidate's outputs on the same inputs.
        extra: what the contract allows on top, an output.
        folded: the candidate has constants that the reference has not.
        runs: K of the full rule.
    """
    if len(ran.outputs) != len(measurement.eager):
        return None
    if any(
        y.shape != e.shape or y.dtype != e.dtype or e.shape != r.shape
        for y, e, r in zip(ran.outputs, measurement.eager, measurement.nominal, strict=True)
    ):
        return None
    last = measurement.wanted(runs)
    waiting = dict.fromkeys(range(len(ran.outputs)))
    accepted: dict[int, Comparison] = {}
    while True:
        for i in list(waiting):
            found = _accepted(measurement, i, ran, extra[i], folded)
            if found is not None:
                accepted[i] = found
                del waiting[i]
        if not waiting:
            return [accepted[i] for i in range(len(ran.outputs))]
        if measurement.runs >= last or any(not _is_float(measurement.eager[i]) for i in waiting):
            return None  # more runs do not make an integer equal
        measurement.run()


def _accepted(
    measurement: NoiseMeasurement, i: int, ran: Ran, extra: Tensor | float, folded: bool
) -> Comparison | None:
    got, eager, reference = (
        ran.outputs[i].detach(),
        measurement.eager[i].detach(),
        measurement.nominal[i].detach(),
    )
    wide = ran.in_float64[i].detach() if ran.in_float64 is not None else None
    if wide is not None and wide.shape != reference.shape:
        return None
    result = Comparison(elements=got.numel())
    if not got.numel():
        return result
    if not _is_float(eager):
        same = bool((got == reference).all()) and (wide is None or bool((wide == reference).all()))
        return result if same else None
    own_wide, noise = eager.to(reference.dtype), measurement.noise[i]
    if bool(differ_in_kind(got.to(reference.dtype), reference).any()):
        return None
    magnitude = _finite(reference.abs(), reference)
    own = _finite((own_wide - reference).abs(), own_wide)
    error = _finite((got.to(reference.dtype) - reference).abs(), reference)
    result.max_error, result.eager_error = float(error.max()), float(own.max())
    result.scale, result.noise = float(magnitude.max()), float(noise.max())
    if 0 < result.max_error and result.scale <= _ONLY_NOISE * (result.noise + result.eager_error):
        return None
    u = unit_roundoff(eager.dtype)
    tiny = torch.finfo(eager.dtype).tiny
    allowed = NOISE_FACTOR * noise + EAGER_FACTOR * own + u * magnitude + tiny + extra
    ratio = (error / allowed).nan_to_num(0.0, posinf=math.inf)
    result.ratio = float(ratio.max())
    if not result.ratio <= 1 or (
        wide is not None and not _same_in_float64(wide, reference, noise, u, extra, folded)
    ):
        return None
    result.allowed = float(allowed.expand_as(reference).flatten()[int(ratio.argmax())])
    return result


def _same_in_float64(
    wide: Tensor, reference: Tensor, noise: Tensor, u: float, extra: Tensor | float, folded: bool
) -> bool:
    if bool(differ_in_kind(wide, reference).any()):
        return False
    error = _finite((wide - reference).abs(), reference)
    magnitude = _finite(reference.abs(), reference)
    shrink = 1.0 if folded else NOISE_FACTOR * unit_roundoff(torch.float64) / u
    relative = FLOAT64_RELATIVE + (u if folded else 0.0)
    return bool((error <= NOISE_FACTOR * shrink * noise + relative * magnitude + extra).all())


def _finite(value: Tensor, where: Tensor) -> Tensor:
    return value.masked_fill(~where.isfinite(), 0.0)


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype.is_floating_point or tensor.dtype.is_complex
