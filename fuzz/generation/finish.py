"""What a grown graph returns, what it leaves unused, and how its inputs lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from graphopt.fuzz.generation.choices import shuffled
from graphopt.fuzz.generation.sketch import Sketch

ALSO_RETURNED = 0.08
"""Probability that an intermediate value is an output as well; each."""

RETURNED_TWICE = 0.06
INPUT_RETURNED = 0.05
DEAD = 0.08
UNUSED_INPUT = 0.05
REORDERED = 0.3
ODD_LAYOUT = 0.12
"""Probability that an input is not contiguous; each."""


def choose_outputs(
    sketch: Sketch, required: Sequence[str] = (), alive: Sequence[str] = ()
) -> tuple[str, ...]:
    """Names of what the graph returns.

    Args:
        required: names that have to be among them.
        alive: names of values that an output has to depend on.
    """
    choices = sketch.choices
    outputs = sketch.sinks()
    if len(outputs) > 1 and choices.chance(DEAD):
        dead = choices.one_of(outputs)
        if not needed_by(sketch, dead) & set(alive) or any(
            needed_by(sketch, other) >= set(alive) for other in outputs if other != dead
        ):
            outputs.remove(dead)
    for call in sketch.calls:
        is_tensor = isinstance(sketch.values[call.name], torch.Tensor)
        if is_tensor and call.name not in sketch.closed and call.name not in outputs:
            if choices.chance(ALSO_RETURNED):
                outputs.append(call.name)
    outputs += [name for name in required if name not in outputs]
    inputs = [leaf.name for leaf in sketch.leaves.values() if leaf.role == "input"]
    if inputs and (not outputs or choices.chance(INPUT_RETURNED)):
        outputs.append(choices.one_of(inputs))
    if choices.chance(RETURNED_TWICE):
        outputs.append(choices.one_of(outputs))
    return tuple(shuffled(choices, outputs) if choices.chance(REORDERED) else outputs)


def needed_by(sketch: Sketch, name: str) -> set[str]:
    """Names of everything that a value is computed from, itself included."""
    found = {name}
    for call in reversed(sketch.calls):
        if call.name in found:
            found.update(call.uses)
    return found


def add_unused_input(sketch: Sketch) -> None:
    """Sometimes, an input that nothing reads."""
    if sketch.choices.chance(UNUSED_INPUT):
        shape = tuple(sketch.size(1, 5) for _ in range(sketch.choices.integer(0, 3)))
        sketch.input(shape, sketch.choices.one_of(("float32", "int64", "bool")))


def lay_out_inputs(sketch: Sketch) -> None:
    """Makes some inputs non-contiguous, where all operators take them so."""
    for leaf in list(sketch.leaves.values()):
        if leaf.role != "input" or not leaf.shape or not sketch.choices.chance(ODD_LAYOUT):
            continue
        turned = len(leaf.shape) > 1 and sketch.choices.chance(0.5)
        sketch.leaves[leaf.name] = replace(leaf, layout="transposed" if turned else "strided")
        if sketch.evaluate() is not None:  # a view of something that is not contiguous, for example
            sketch.leaves[leaf.name] = leaf
            sketch.evaluate()
