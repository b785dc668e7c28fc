"""One case of a campaign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from graphopt.errors import GraphoptError
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.generation.choices import RandomChoices, weighted
from graphopt.fuzz.generation.context import Growing, around, around_block, drawn_pattern, of_operators
from graphopt.fuzz.generation.dynamic import name_an_axis, with_axes_that_export
from graphopt.fuzz.generation.finish import add_unused_input, choose_outputs, lay_out_inputs, needed_by
from graphopt.fuzz.generation.options import Options
from graphopt.fuzz.generation.patterns import Pattern
from graphopt.fuzz.generation.screening import draws_random_numbers, unstable_value
from graphopt.fuzz.generation.sketch import Sketch
from graphopt.fuzz.graphs import Graph

_ATTEMPTS = 20
_REDRAWS = 2


def generate(
    root_seed: int, index: int, options: Options | None = None, *, dropped: Counter[str] | None = None
) -> FuzzCase:
    """The case of an index in the campaign of a seed.

    It depends on the seed, the index and the options, and on nothing else: not on other cases, nor on
    the process.  Eager torch runs it, and no value in it is NaN or infinite.

    Args:
        dropped: counts what was drawn and thrown away, by reason.

    Raises:
        GraphoptError: twenty attempts gave none.
    """
    options = options or Options()
    source = weighted(RandomChoices(root_seed, index, "source"), options.sources)

    def grow(sketch: Sketch) -> Growing | None:
        if source == "template" and sketch.choices.chance(options.block):
            return around_block(sketch, options)
        if source == "template":
            return around(sketch, drawn_pattern(sketch, options), options)
        return of_operators(sketch, source, options)

    case = _first(grow, root_seed, index, options, dropped)
    if case is None:
        raise GraphoptError(f"no case was found for seed {root_seed}, index {index}")
    return case


def generate_around(
    pattern: Pattern, root_seed: int, index: int, options: Options | None = None
) -> FuzzCase | None:
    """A case with a given template in it.

    Returns:
        None if there is none: the template draws random numbers, or its results are not finite.
    """
    options = options or Options()
    return _first(lambda sketch: around(sketch, pattern, options), root_seed, index, options, None)


def _first(
    grow: Callable[[Sketch], Growing | None],
    root_seed: int,
    index: int,
    options: Options,
    dropped: Counter[str] | None,
) -> FuzzCase | None:
    """What the first attempt gives that gives anything."""
    dropped = Counter() if dropped is None else dropped
    for attempt in range(_ATTEMPTS):
        choices = RandomChoices(root_seed, index, attempt)
        sketch = Sketch(choices, choices.integer(0, 2**31 - 1), options.elements)
        growing = grow(sketch)
        graph = _finished(growing, options, dropped) if growing is not None else None
        dropped.update(sketch.dropped)
        if growing is not None and graph is not None:
            return FuzzCase(
                graph,
                options.passes,
                sketch.seed,
                growing.origin,
                f"{root_seed}/{index}",
                growing.rule,
                growing.expects,
            )
        dropped["the whole case"] += 1
    return None


def _finished(growing: Growing, options: Options, dropped: Counter[str]) -> Graph | None:
    """The graph with its outputs chosen, once it is stable; None if it cannot be made so."""
    sketch = growing.sketch
    if random := [c.operator for c in sketch.calls if draws_random_numbers(c)]:
        dropped[f"{random[0]}: draws random numbers"] += 1
        return None
    add_unused_input(sketch)
    lay_out_inputs(sketch)
    if options.screened and not _screened(growing, dropped):
        return None
    if not sketch.sizes and sketch.choices.chance(options.dynamic):
        name_an_axis(sketch)
    outputs = choose_outputs(sketch, growing.required, growing.alive)
    return with_axes_that_export(sketch, sketch.graph(outputs), dropped)


def _screened(growing: Growing, dropped: Counter[str]) -> bool:
    """Takes other values, or leaves operators out, until the graph is stable.

    Returns:
        False where it cannot be made so.
    """
    sketch = growing.sketch
    kept = {name for result in growing.alive for name in needed_by(sketch, result)}
    redraws = 0
    while culprit := unstable_value(sketch):
        if redraws < _REDRAWS:
            redraws += 1
            if _redrawn(sketch):
                continue
        dropped["an operator whose value rounding decides"] += 1
        if culprit in kept:
            return False
        sketch.without({culprit})
    return bool(sketch.calls)


def _redrawn(sketch: Sketch) -> bool:
    """Takes other values for the leaves, with which everything is finite."""
    before = sketch.seed
    for _ in range(_REDRAWS):
        if sketch.evaluate(sketch.choices.integer(0, 2**31 - 1)) is None:
            return True
    sketch.evaluate(before)
    return False
