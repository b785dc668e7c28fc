"""``python -m benchmarks.verification_noise``: how often the rule is wrong, and how sharp it is."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.verification_noise.graphs import random_program
from benchmarks.verification_noise.reordered import Reordered
from graphopt.ir.program import Program
from graphopt.verification import draw_inputs
from graphopt.verification.inputs import KINDS
from graphopt.verification.noise import OutputNoise, measure_noise
from graphopt.verification.rule import compare


def figures(graphs: int, first_seed: int = 0) -> dict[str, list[float]]:
    """Measures random graphs; every third one rounds, compares or takes an argmax.

    Returns:
        ``eager/N`` and ``reordered/N``: largest error over largest noise of each stable output;
        ``ratio``: largest error over what is allowed; ``alarm``: 1 for a false alarm;
        ``allclose``: 1 where ``numpy.allclose`` with its defaults rejects the second implementation;
        ``unstable``: 1 for outputs with unstable elements; ``seconds``: of each noise measurement;
        ``sharp``: 1 where the output scaled by 1 + 1e-4 is rejected.
    """
    found: dict[str, list[float]] = {
        n: [] for n in "eager/N reordered/N ratio alarm allclose unstable sharp seconds".split()
    }
    for seed in range(first_seed, first_seed + graphs):
        program = random_program(seed, discrete=seed % 3 == 0)
        inputs = draw_inputs(program, seed=seed, kind=KINDS[seed % 3]).tensors
        start = time.process_time()
        noise = measure_noise(program.graph_module, inputs, seed=seed)
        found["seconds"].append(time.process_time() - start)
        for y, output in zip(_second_implementation(program, inputs), noise.outputs, strict=True):
            _one_output(found, y, output)
    return found


def _second_implementation(program: Program, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(Reordered(program.graph_module).run(*inputs))


def _one_output(found: dict[str, list[float]], y: Tensor, output: OutputNoise) -> None:
    result = compare(y, output)
    found["alarm"].append(float(not result.ok))
    found["unstable"].append(float(output.unstable_fraction > 0))
    if not output.is_float or result.unstable == result.elements:
        return
    found["ratio"].append(result.ratio)
    if result.noise > 0:
        found["eager/N"].append(result.eager_error / result.noise)
        found["reordered/N"].append(result.max_error / result.noise)
    if output.unstable_fraction == 0:
        found["allclose"].append(float(not np.allclose(y.numpy(), output.eager.numpy(), equal_nan=True)))
        found["sharp"].append(float(not compare(output.eager * (1 + 1e-4), output).ok))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = figures(options.graphs, options.seed)
    print(f"{options.graphs} graphs, {len(found['alarm'])} outputs")
    for name in ("eager/N", "reordered/N", "ratio"):
        p = np.percentile(found[name], [50, 90, 99, 100])
        print(f"{name:12} p50 {p[0]:.3f}  p90 {p[1]:.3f}  p99 {p[2]:.3f}  max {p[3]:.3f}")
    for name in ("alarm", "allclose", "unstable", "sharp"):
        print(f"{name:12} {int(sum(found[name]))} of {len(found[name])}")
    print(f"seconds      median {np.median(found['seconds']):.3f} of CPU a graph")


if __name__ == "__main__":
    main()
