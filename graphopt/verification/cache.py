"""Noise measurements that are kept: a pipeline verifies each of its passes against one original."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from graphopt.ir.program import Program
from graphopt.verification.constants import digest
from graphopt.verification.noise import Noise, NoiseMeasurement, measure_noise

MAX_ELEMENTS = 1 << 25
"""Output elements whose noise is kept, over all measurements (about 0.9 GB at most)."""

_kept: OrderedDict[tuple[object, ...], Noise] = OrderedDict()


class NoiseOf:
    """Measures the noise of one program, or recalls it.

    The key is the content of graph, weights and inputs, so a program that was changed in place is
    measured again.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.identity = program.structural_hash()

    def __call__(self, inputs: Sequence[Tensor], *, runs: int | None, seed: int) -> Noise:
        """:func:`~graphopt.verification.noise.measure_noise` of the program on ``inputs``."""
        key = self._key(inputs, runs, seed)
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
        return self._keep(key, measure_noise(self.program.graph_module, inputs, runs=runs, seed=seed))

    def begin(self, inputs: Sequence[Tensor], *, seed: int) -> NoiseMeasurement:
        """A measurement without a run yet, for who may not need them all."""
        return NoiseMeasurement(self.program.graph_module, inputs, seed=seed)

    def complete(self, measurement: NoiseMeasurement, *, runs: int | None) -> Noise:
        """The measurement with all of its runs, which is kept."""
        key = self._key(measurement.inputs, runs, measurement.seed)
        return self._keep(key, measurement.complete(runs))

    def _key(self, inputs: Sequence[Tensor], runs: int | None, seed: int) -> tuple[object, ...]:
        return (self.identity, *(digest(t) for t in inputs), runs, seed, torch.get_num_threads())

    def _keep(self, key: tuple[object, ...], noise: Noise) -> Noise:
        _kept[key] = noise
        while sum(_elements(n) for n in _kept.values()) > MAX_ELEMENTS:
            _kept.popitem(last=False)
        return noise


def _elements(noise: Noise) -> int:
    return sum(o.eager.numel() for o in noise.outputs)
