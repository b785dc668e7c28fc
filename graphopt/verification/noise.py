"""The noise floor of a graph: how far correct implementations of it may differ.

The graph runs in float64 once as it is and ``runs`` times with the result of every arithmetic
operator perturbed by a random sign times the operator's own rounding error (see
:mod:`graphopt.verification.amplitude`).  The largest deviation seen at an element is its noise ``N``.
It is what rounding does to *this* graph on *this* input, conditioning included, so no tolerance has
to be guessed: an ill-conditioned output gets a large ``N``, a copied one gets zero.

An element is *unstable* when rounding alone decides its value: a ``floor``, ``argmax`` or comparison
upstream flips between the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from graphopt._torch import TorchDispatchMode
from graphopt.verification.amplitude import MOVES, accumulated_terms, is_exact, operator_name, rounding
from graphopt.verification.reference import (
    CASTS,
    Float64Interpreter,
    accumulator_roundoff,
    recorded_dtypes,
    run_eagerly,
    unit_roundoff,
)

PERTURBATION = 2.0
"""Each operator is perturbed by this many times its rounding error."""

UNSTABLE_FRACTION = 0.01
"""Noise beyond this fraction of the output's scale means that a decision flipped."""

SENTINEL_FRACTION = 0.25
"""Numbers beyond this fraction of the dtype's largest are mask sentinels, which absorb what is added."""

_FULL_RUNS, _FEW_RUNS = 8, 4
_WORK_FOR_FULL_RUNS = 3e10
_CACHED_ELEMENTS = 1 << 28


@dataclass
class OutputNoise:
    """The reference and the noise floor of one output.

    Attributes:
        eager: the output of the graph as written, in its own dtype.
        reference: the same in float64 (integers and booleans: as they are).
        noise: ``N`` an element, float64; zeros for integers and booleans.
        unstable: elements whose values rounding decides.
    """

    eager: Tensor
    reference: Tensor
    noise: Tensor
    unstable: Tensor

    @property
    def is_float(self) -> bool:
        return self.eager.dtype.is_floating_point or self.eager.dtype.is_complex

    @property
    def is_only_noise(self) -> bool:
        """All of the output is rounding error, as in ``x - x``: in exact arithmetic it is zero."""
        if not self.is_float or not bool(self.reference.isfinite().all() & self.eager.isfinite().all()):
            return False
        return bool(self.unstable.all()) and float(self.reference.abs().max()) <= 1e-6 * float(
            self.noise.max()
        )

    @property
    def unstable_fraction(self) -> float:
        if not self.unstable.numel() or self.is_only_noise:
            return 0.0
        return float(self.unstable.double().mean())


@dataclass
class Noise:
    """What :func:`measure_noise` found.

    Attributes:
        outputs: one an output of the graph.
        runs: number of perturbed runs (K).
        work: multiply-accumulates of one run, roughly.
        emulated: nodes without a float64 kernel, which ran in their own precision.
    """

    outputs: list[OutputNoise]
    runs: int
    work: float
    emulated: list[str] = field(default_factory=list)


def measure_noise(
    module: fx.GraphModule, inputs: Sequence[Tensor], *, runs: int | None = None, seed: int = 0
) -> Noise:
    """Runs a graph eagerly, in float64 and perturbed.

    Args:
        module: a flat graph of OpOverloads (see :class:`graphopt.ir.program.Program`).
        inputs: one tensor a placeholder, in the graph's own dtypes.
        runs: perturbed runs; None: 8, or 4 for graphs of more than 3e10 multiply-accumulates.
        seed: of the perturbations; results are the same for the same seed.

    Raises:
        InputError: the graph draws random numbers, or a node rejects the inputs.
    """
    measurement = NoiseMeasurement(module, inputs, seed=seed)
    return measurement.complete(runs)


class NoiseMeasurement:
    """The same, run by run: the first ``k`` runs are the first of any longer measurement.

    So ``N`` only grows, and so does what is unstable.

    Args:
        module, inputs, seed: as :func:`measure_noise`.

    Attributes:
        eager: the outputs of the graph as written.
        nominal: the outputs in float64.
        noise: ``N`` of each output by the runs made so far.
        runs: how many those are.

    Raises:
        InputError: the graph draws random numbers, or a node rejects the inputs.
    """

    def __init__(self, module: fx.GraphModule, inputs: Sequence[Tensor], *, seed: int = 0) -> None:
        self.module, self.inputs, self.seed = module, inputs, seed
        self.eager, self._dtypes = run_eagerly(module, inputs)
        self._mode = _Perturbation()
        nominal_run = _NoisyInterpreter(module, self._dtypes, self._mode)
        self.nominal = nominal_run.run_in_float64(inputs)
        self.emulated = sorted(nominal_run.emulated)
        self.noise = [torch.zeros(y.shape, dtype=torch.float64) for y in self.nominal]
        self._flipped = [torch.zeros(y.shape, dtype=torch.bool) for y in self.nominal]
        self.runs = 0

    def run(self) -> None:
        """One more perturbed run."""
        k, mode = self.runs, self._mode
        # Run 1 mirrors run 0: a decision that hangs on one rounding flips in one of them.
        mode.start_perturbed_run(self.seed * 1_000_003 + max(k, 1), -1.0 if k == 0 else 1.0)
        perturbed = _NoisyInterpreter(self.module, self._dtypes, mode).run_in_float64(self.inputs)
        for i, (y, z) in enumerate(zip(self.nominal, perturbed, strict=True)):
            _accumulate(self.noise[i], self._flipped[i], y, z)
        self.runs += 1

    def wanted(self, runs: int | None) -> int:
        """``runs``, or how many a graph of this size gets."""
        if runs is not None:
            return runs
        return _FULL_RUNS if self._mode.work <= _WORK_FOR_FULL_RUNS else _FEW_RUNS

    def complete(self, runs: int | None = None) -> Noise:
        """Makes the runs that are missing; the result of :func:`measure_noise`."""
        while self.runs < self.wanted(runs):
            self.run()
        parts = zip(self.eager, self.nominal, self.noise, self._flipped, strict=True)
        outputs = [_finish(e, y, n, f) for e, y, n, f in parts]
        return Noise(outputs, self.runs, self._mode.work, self.emulated)


def output_noise(eager: Tensor, nominal: Tensor, perturbed: Iterable[Tensor]) -> OutputNoise:
    """The noise of one output, from runs that the caller made.

    Args:
        eager: the output in its own dtype.
        nominal: the same in float64 (integers and booleans: as they are).
        perturbed: the float64 runs whose operations were perturbed by ``PERTURBATION`` times their
            rounding errors.
    """
    noise = torch.zeros(nominal.shape, dtype=torch.float64)
    flipped = torch.zeros(nominal.shape, dtype=torch.bool)
    for run in perturbed:
        _accumulate(noise, flipped, nominal, run)
    return _finish(eager, nominal, noise, flipped)


def _accumulate(noise: Tensor, flipped: Tensor, nominal: Tensor, perturbed: Tensor) -> None:
    if nominal.shape != perturbed.shape:
        flipped.fill_(True)
        return
    if not (nominal.dtype.is_floating_point or nominal.dtype.is_complex):
        flipped |= nominal != perturbed
        return
    difference = (perturbed - nominal).abs()
    same = (perturbed == nominal) | (perturbed.isnan() & nominal.isnan())
    difference = difference.masked_fill(same, 0.0)
    flipped |= ~difference.isfinite()
    torch.maximum(noise, difference.nan_to_num(0.0, 0.0, 0.0), out=noise)


def _finish(eager: Tensor, nominal: Tensor, noise: Tensor, flipped: Tensor) -> OutputNoise:
    if eager.shape != nominal.shape:
        # A data-dependent size that rounding decides: nothing can be compared.
        return OutputNoise(eager, eager, torch.zeros_like(noise), torch.ones(eager.shape, dtype=torch.bool))
    if not (eager.dtype.is_floating_point or eager.dtype.is_complex):
        return OutputNoise(eager, nominal, noise, flipped | (eager != nominal))
    magnitude = nominal.abs()
    finite = magnitude.isfinite()
    scale = float(magnitude[finite].max()) if finite.any() else 0.0
    limit = UNSTABLE_FRACTION * scale
    # Half precision has noise of this size without any flip; there only eager's own witness counts.
    limit = max(limit, 64 * unit_roundoff(eager.dtype) * scale)
    flipped |= noise > limit
    own_error = (eager.to(nominal.dtype) - nominal).abs()
    flipped |= finite & own_error.isfinite() & (own_error > limit)
    return OutputNoise(eager, nominal, noise, flipped)


class _Perturbation(TorchDispatchMode):
    """Perturbs the outputs of the operators below the composite ones.

    In its first run it only measures amplitudes, and keeps them for the runs that follow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None
        self.work = 0.0
        self._amplitudes: list[Tensor | None] = []
        self._cached = 0
        self._position = 0
        self._generator: torch.Generator | None = None
        self._direction = 1.0

    def start_perturbed_run(self, seed: int, direction: float = 1.0) -> None:
        """Begins a run whose signs are the seed's, all of them turned if ``direction`` is -1."""
        self._generator = torch.Generator().manual_seed(seed)
        self._direction = direction
        self._position = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        in_place = func._schema.is_mutable
        before = _copies(args) if in_place else args
        out = func(*args, **kwargs)
        if self.dtype is None or func.is_view or operator_name(func) in MOVES:
            return out
        outputs = out if isinstance(out, list | tuple) else [out]
        for i, y in enumerate(outputs):
            if isinstance(y, Tensor) and unit_roundoff(y.dtype) and y.numel():
                self.perturb(y, self.dtype, None if i else (func, before, kwargs))
        return out

    def perturb(self, y: Tensor, dtype: torch.dtype, call: tuple[Any, Any, Any] | None) -> None:
        """Adds noise of the size that ``dtype`` has to ``y`` in place, or measures that size."""
        position, self._position = self._position, self._position + 1
        if self._generator is None:
            amplitude = self._amplitude(y, dtype, call)
            keep = self._cached + y.numel() <= _CACHED_ELEMENTS
            self._cached += y.numel() if keep else 0
            self._amplitudes.append(amplitude if keep else None)
            return
        cached = self._amplitudes[position] if position < len(self._amplitudes) else None
        if cached is None or cached.shape != y.shape:
            cached = self._amplitude(y, dtype, call)
        change = cached * _signs(y.shape, self._generator)
        if y.dtype.is_complex:
            change = torch.complex(change, cached * _signs(y.shape, self._generator))
        y.add_(change, alpha=self._direction)

    def _amplitude(self, y: Tensor, dtype: torch.dtype, call: tuple[Any, Any, Any] | None) -> Tensor:
        u, accumulator = unit_roundoff(dtype), accumulator_roundoff(dtype)
        magnitude = y.abs()
        total = u * magnitude
        if call is not None:
            func, args, kwargs = call
            if is_exact(func, (*args, *kwargs.values()), y, 1 / u):
                return torch.zeros_like(magnitude)
            terms = accumulated_terms(func, args, y)
            if self._generator is None:
                self.work += float(y.numel()) * terms
            extra = rounding(func, args, kwargs, y)
            if extra.stored is not None:
                total = total + u * extra.stored
            if extra.accumulated is not None:
                total = total + accumulator * extra.accumulated
            if terms > 1:
                total = total + accumulator * (terms**0.5 - 1) * magnitude
        limits = torch.finfo(dtype)
        total = PERTURBATION * total + limits.tiny
        exact_zero = total <= limits.tiny
        total = total.masked_fill(exact_zero | ~(magnitude < SENTINEL_FRACTION * limits.max), 0.0)
        total = total.nan_to_num(0.0, 0.0, 0.0)
        return total if dtype == torch.float64 else total.float()


class _NoisyInterpreter(Float64Interpreter):
    def __init__(self, module: fx.GraphModule, dtypes: dict[str, Any], mode: _Perturbation) -> None:
        super().__init__(module, dtypes)
        self.mode = mode

    def nested(self, body: fx.GraphModule) -> Float64Interpreter:
        return _NoisyInterpreter(body, recorded_dtypes(body), self.mode)

    def invoke(self, target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self.current is not None
        self.mode.dtype = self.compute_dtype(self.current)
        call: Callable[..., Any] = target
        if target.namespace == "graphopt":
            # A custom op is opaque to a dispatch mode; its reference is not.
            from graphopt.dialect.registry import get

            call, args = get(target).reference, _all_arguments(target, args, kwargs)
            kwargs = {}
        with self.mode:
            return call(*args, **kwargs)

    def finish(self, n: fx.Node, value: Any) -> Any:
        target = n.target
        if isinstance(target, torch._ops.OpOverload) and target._schema.name in CASTS:
            value = self._round_cast(n, value)
        return super().finish(n, value)

    def _round_cast(self, n: fx.Node, value: Any) -> Any:
        """A conversion to a narrower dtype rounds; to a wider one it copies."""
        source, target = self.dtypes[n.all_input_nodes[0].name], self.dtypes[n.name]
        if not isinstance(value, Tensor) or not unit_roundoff(target) or not value.numel():
            return value
        rounds = unit_roundoff(target) > unit_roundoff(source) > 0
        if unit_roundoff(source) == 0 and value.numel():
            rounds = float(value.abs().max()) > 1 / unit_roundoff(target)
        if not rounds:
            return value
        value = value.clone()
        self.mode.perturb(value, target, None)
        return value


def _all_arguments(
    target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    rest = target._schema.arguments[len(args) :]
    return args + tuple(kwargs.get(a.name, a.default_value) for a in rest)


def _copies(args: Any) -> Any:
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in args)


def _signs(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Random +1 and -1, float32; one draw of 64 bits serves eight elements."""
    count = shape.numel()
    bits = torch.empty((count + 7) // 8, dtype=torch.int64).random_(generator=generator)
    return (bits.view(torch.int8)[:count] & 1).mul_(2).sub_(1).reshape(shape).float()
