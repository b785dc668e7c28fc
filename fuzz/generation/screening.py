"""Which graphs say something when two computations of them are compared.

An element is unstable when rounding alone decides it (see :mod:`graphopt.verification.noise`); the
verifier does not compare such elements, and a graph full of them proves nothing.
"""

from __future__ import annotations

import torch

from graphopt.fuzz.generation.sketch import Sketch
from graphopt.fuzz.graphs import Call, build_module, draw_inputs
from graphopt.verification.noise import measure_noise

_RUNS = 2
_UNSTABLE_FRACTION = 0.1
"""As in the verifier: beyond it inputs are drawn again."""


def unstable_value(sketch: Sketch) -> str | None:
    """The first value, in order, of which more than a tenth is unstable; None if there is none."""
    names = tuple(c.name for c in sketch.calls if isinstance(sketch.values[c.name], torch.Tensor))
    if not names:
        return None
    graph = sketch.graph(names)
    noise = measure_noise(
        build_module(graph, sketch.seed), draw_inputs(graph, sketch.seed), runs=_RUNS, seed=sketch.seed
    )
    for name, output in zip(names, noise.outputs, strict=True):
        if output.unstable_fraction > _UNSTABLE_FRACTION:
            return name
    return None


def draws_random_numbers(call: Call) -> bool:
    """Whether two runs of a call differ; dropout in evaluation mode does not."""
    name = call.operator.split(".")[1]
    if name.endswith("dropout"):
        return any(a is True for a in call.arguments)
    return name in (
        "rand",
        "randn",
        "randint",
        "rand_like",
        "randn_like",
        "bernoulli",
        "multinomial",
        "normal",
    )
