"""The rule that decides whether an output is right.  All of its factors live here.

An output ``y`` fails where either of

    |y - y64| > 8 * N + 4 * max|eager - y64| + u * max|y64|                 over the whole output
    |y - y64| > 8 * (N + P / 10) + 4 * |eager - y64| + u * |y64|            of the element itself

holds, with ``y64`` the float64 reference, ``N`` the noise of each element
(:mod:`graphopt.verification.noise`), ``P`` the mean noise of its row or its column, whichever is less,
``eager`` the graph run by torch in its own precision, and ``u`` the unit roundoff of the output's
dtype (2^-24 for float32).  The second keeps a large element from excusing an error in a small one.
The maxima run over the elements that are stable.  Integers and booleans must be equal, and shape,
dtype and the places of NaN and infinities always are.  Where rounding alone decides a value the
element is not compared; if it decides all of a floating-point output (a difference that is zero in exact
arithmetic), the output must still be no larger than its noise, by the first line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphopt.verification.noise import OutputNoise
from graphopt.verification.reference import unit_roundoff

NOISE_FACTOR = 8.0
EAGER_FACTOR = 4.0
POOLED_FACTOR = 0.1
FLOAT64_RELATIVE = 1e-10
"""How closely two programs that are equal in exact arithmetic agree in float64, relative to scale."""

FLIPS_PER_UNSTABLE = 0.25
"""Mismatches forgiven outside the unstable elements: decisions that K runs happened not to flip."""


@dataclass
class Comparison:
    """One output of one run against its reference.

    Attributes:
        problem: what is wrong, in words; None when the output is right.
        max_error: largest error among the compared elements.
        ratio: largest ``error / allowed``; more than 1 fails.
        allowed: what was allowed at the element with that ratio.
        index: that element, or the first offending one.
        expected, got: the values there.
        noise: largest ``N``.
        eager_error: largest ``|eager - y64|`` over stable elements.
        scale: largest ``|y64|``.
        unstable: elements not compared because rounding decides their values.
        mismatches: compared elements beyond what is allowed.
        forgiven: how many of those count as flipped decisions.
        elements: size of the output.
    """

    problem: str | None = None
    max_error: float = 0.0
    ratio: float = 0.0
    allowed: float = 0.0
    index: tuple[int, ...] | None = None
    expected: float | int | bool | None = None
    got: float | int | bool | None = None
    noise: float = 0.0
    eager_error: float = 0.0
    scale: float = 0.0
    unstable: int = 0
    mismatches: int = 0
    forgiven: int = 0
    elements: int = 0

    @property
    def ok(self) -> bool:
        return self.problem is None

    @property
    def inconclusive(self) -> bool:
        """Nothing was compared, although there was something to compare."""
        return self.elements > 0 and self.unstable == self.elements


def compare(got: Tensor, noise: OutputNoise, *, extra: Tensor | float = 0.0) -> Comparison:
    """Applies the rule to one output.

    Args:
        got: the candidate's output.
        noise: reference and noise of the output.
        extra: an error bound that the contract allows on top (``Bounded``), broadcastable.
    """
    want = noise.eager
    result = Comparison(elements=want.numel(), unstable=int(noise.unstable.sum()))
    if tuple(got.shape) != tuple(want.shape):
        result.problem = f"shape {list(got.shape)}, expected {list(want.shape)}"
    elif got.dtype != want.dtype:
        result.problem = f"dtype {_short(got.dtype)}, expected {_short(want.dtype)}"
    if result.problem is not None:
        result.ratio = math.inf
        return result
    if not noise.is_float:
        return _compare_integers(got, noise, result)
    return _compare_floats(got, noise, extra, result)


def _compare_integers(got: Tensor, noise: OutputNoise, result: Comparison) -> Comparison:
    wrong = (got != noise.reference) & ~noise.unstable
    if got.dtype != torch.bool and got.numel():
        result.max_error = float(
            ((got.double() - noise.reference.double()).abs() * (~noise.unstable).double()).max()
        )
    _count(result, wrong)
    if result.mismatches > result.forgiven:
        result.ratio = math.inf
        _locate(result, wrong.double(), got, noise)
        result.problem = f"{result.mismatches} of {result.elements} elements differ"
    return result


def _compare_floats(got: Tensor, noise: OutputNoise, extra: Tensor | float, result: Comparison) -> Comparison:
    reference = noise.reference.detach()  # an output may be a parameter of the program
    eager = noise.eager.detach().to(reference.dtype)
    got = got.detach()
    only_noise = result.elements > 0 and bool(noise.is_only_noise)
    unstable = torch.zeros_like(noise.unstable) if only_noise else noise.unstable
    result.unstable = int(unstable.sum())
    wide = got.to(reference.dtype)
    special = differ_in_kind(wide, reference) & differ_in_kind(wide, eager) & ~unstable
    comparable = reference.isfinite() & wide.isfinite() & ~unstable
    error = (wide - reference).abs().masked_fill(~comparable, 0.0)
    own = (eager - reference).abs().masked_fill(~(comparable & eager.isfinite()), 0.0)
    finite = reference.abs().masked_fill(~reference.isfinite() | unstable, 0.0)
    if result.elements:
        result.max_error, result.eager_error = float(error.max()), float(own.max())
        result.scale, result.noise = (
            float(finite.max()),
            float(noise.noise.masked_fill(~comparable, 0.0).max()),
        )
    u, n = unit_roundoff(noise.eager.dtype), noise.noise
    of_output = NOISE_FACTOR * n + EAGER_FACTOR * result.eager_error + u * result.scale
    of_element = NOISE_FACTOR * (n + POOLED_FACTOR * _pooled(n)) + EAGER_FACTOR * own + u * finite
    if only_noise:
        of_output = of_element = NOISE_FACTOR * n.amax() + torch.zeros_like(n)
    allowed = torch.minimum(of_output, of_element) + torch.finfo(noise.eager.dtype).tiny + extra
    ratio = (error / allowed).nan_to_num(0.0, posinf=math.inf)
    wrong = (ratio > 1) | special
    _count(result, wrong)
    if result.elements:
        worst = ratio.masked_fill(special, math.inf)
        result.ratio = float(worst.max())
        if result.mismatches <= result.forgiven:
            result.ratio = float(worst.masked_fill(wrong, 0.0).max())
            worst = ratio.masked_fill(wrong, 0.0)
        _locate(result, worst, got, noise)
        assert result.index is not None
        result.allowed = float(allowed.expand_as(reference)[result.index])
    if result.mismatches > result.forgiven:
        if special.any():
            result.problem = (
                f"{int(special.sum())} of {result.elements} elements differ in being NaN or infinite"
            )
        else:
            result.problem = (
                f"{result.mismatches} of {result.elements} elements are off by more than rounding"
            )
    return result


def compare_bits(got: Tensor, want: Tensor) -> Comparison:
    """Equality of dtype, shape and every value; NaN equals NaN."""
    result = Comparison(elements=want.numel())
    if got.shape != want.shape:
        result.problem = f"shape {list(got.shape)}, expected {list(want.shape)}"
    elif got.dtype != want.dtype:
        result.problem = f"dtype {_short(got.dtype)}, expected {_short(want.dtype)}"
    if result.problem is not None:
        result.ratio = float("inf")
        return result
    wrong = (got != want) & ~(got.isnan() & want.isnan()) if want.is_floating_point() else got != want
    result.mismatches = int(wrong.sum())
    if result.mismatches:
        result.problem, result.ratio = (
            f"{result.mismatches} of {result.elements} elements differ",
            float("inf"),
        )
        result.index = tuple(int(i) for i in wrong.nonzero()[0])
        result.got, result.expected = got[result.index].item(), want[result.index].item()
        error = (got.double() - want.double()).abs().nan_to_num(0.0)
        result.max_error = float(error.max())
    return result


def _count(result: Comparison, wrong: Tensor) -> None:
    result.mismatches = int(wrong.sum())
    result.forgiven = math.ceil(FLIPS_PER_UNSTABLE * result.unstable)


def _pooled(noise: Tensor) -> Tensor:
    """Mean noise over an element's row (last axis) or column (all other axes), whichever is less.

    K runs can miss the noise of one element (a relu that just stays closed), not that of all.
    """
    if not noise.dim():
        return noise
    row = noise.mean(-1, keepdim=True)
    if noise.shape[:-1].numel() == 1:
        return row.expand_as(noise)
    column = noise.mean(tuple(range(noise.dim() - 1)), keepdim=True)
    return torch.minimum(row, column) if noise.shape[-1] > 1 else column.expand_as(noise)


def differ_in_kind(a: Tensor, b: Tensor) -> Tensor:
    """Where one is NaN or infinite and the other is something else."""
    same = (a == b) | (a.isnan() & b.isnan()) | (a.isfinite() & b.isfinite())
    return ~same


def _locate(result: Comparison, badness: Tensor, got: Tensor, noise: OutputNoise) -> None:
    flat = int(badness.argmax())
    index: list[int] = []
    for size in reversed(badness.shape):
        index.append(flat % size)
        flat //= size
    result.index = tuple(reversed(index))
    result.got, result.expected = got[result.index].item(), noise.reference[result.index].item()


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def compare_in_float64(
    got: Tensor, noise: OutputNoise, *, folded: bool, extra: Tensor | float = 0.0
) -> Comparison:
    """Compares the float64 runs of two programs.

    Args:
        got: the candidate's float64 output.
        noise: reference and noise of the output, measured in the precision of the graph.
        folded: the candidate has constants that the reference has not; they were rounded once, so
            the noise of the graph applies instead of ``FLOAT64_RELATIVE``.
        extra: an error bound that the contract allows on top, broadcastable.
    """
    reference = noise.reference
    result = Comparison(elements=reference.numel(), unstable=int(noise.unstable.sum()))
    if tuple(got.shape) != tuple(reference.shape):
        result.problem, result.ratio = f"shape {list(got.shape)}, expected {list(reference.shape)}", math.inf
        return result
    if not noise.is_float:
        return _compare_integers(got, noise, result)
    comparable = reference.isfinite() & got.isfinite() & ~noise.unstable
    special = (
        differ_in_kind(got, reference)
        & differ_in_kind(got, noise.eager.to(reference.dtype))
        & ~noise.unstable
    )
    error = (got - reference).abs().masked_fill(~comparable, 0.0)
    result.scale = float(reference.abs().masked_fill(~comparable, 0.0).max()) if result.elements else 0.0
    u = unit_roundoff(noise.eager.dtype)
    shrink = 1.0 if folded else NOISE_FACTOR * unit_roundoff(torch.float64) / u
    allowed = NOISE_FACTOR * noise.noise * shrink + FLOAT64_RELATIVE * result.scale + extra
    if folded:
        allowed = allowed + u * result.scale
    ratio = (error / allowed).nan_to_num(0.0, posinf=math.inf).masked_fill(special, math.inf)
    wrong = ratio > 1
    _count(result, wrong)
    if result.elements:
        result.max_error = float(error.max())
        if result.mismatches <= result.forgiven:
            ratio = ratio.masked_fill(wrong, 0.0)
        result.ratio = float(ratio.max())
        _locate(result, ratio, got, noise)
        assert result.index is not None
        result.allowed = float(torch.as_tensor(allowed).expand_as(reference)[result.index])
    if result.mismatches > result.forgiven:
        result.problem = (
            f"in float64, {result.mismatches} of {result.elements} elements differ: "
            "the programs are not equal in exact arithmetic"
        )
    return result
