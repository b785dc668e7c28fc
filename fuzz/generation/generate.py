"""One case of a campaign."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from graphopt.errors import GraphoptError
from graphopt.fuzz.cases import Expectation, FuzzCase, Origin
from graphopt.fuzz.generation import patterns
from graphopt.fuzz.generation.choices import RandomChoices, weighted
from graphopt.fuzz.generation.embedding import embed
from graphopt.fuzz.generation.finish import add_unused_input, choose_outputs, lay_out_inputs, needed_by
from graphopt.fuzz.generation.growth import grow_after, grow_before, start
from graphopt.fuzz.generation.options import Options, Source
from graphopt.fuzz.generation.screening import draws_random_numbers, unstable_value
from graphopt.fuzz.generation.sketch import Sketch
from graphopt.fuzz.graphs import Graph

_ATTEMPTS = 20
_REDRAWS = 2


@dataclass
class Growing:
    """A case while it is made.

    Attributes:
        sketch: its graph.
        origin: where most of it comes from.
        rule: whose template it holds.
        expects: what the rule has to do.
        required: names of values that have to be outputs.
        alive: names of values that an output has to depend on, and that must not be dropped.
    """

    sketch: Sketch
    origin: Origin
    rule: str | None = None
    expects: Expectation | None = None
    required: tuple[str, ...] = ()
    alive: tuple[str, ...] = ()


def generate(
    root_seed: int, index: int, options: Options | None = None, *, dropped: Counter[str] | None = None
) -> FuzzCase:
    """The case of an index in the campaign of a seed.

    It depends on the seed, the index and the options, and on nothing else: not on other cases, nor on
    the process.  Eager torch runs it, and no value in it is NaN or infinite.

    Args:
        dropped: counts what was drawn and thrown away, by reason.
    """
    options = options or Options()
    dropped = Counter() if dropped is None else dropped
    source = weighted(RandomChoices(root_seed, index, "source"), options.sources)
    for attempt in range(_ATTEMPTS):
        choices = RandomChoices(root_seed, index, attempt)
        sketch = Sketch(choices, choices.integer(0, 2**31 - 1), options.elements)
        growing = _grow(sketch, source, options)
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
    raise GraphoptError(f"no case was found for seed {root_seed}, index {index}")


def _grow(sketch: Sketch, source: Source, options: Options) -> Growing | None:
    operators = sketch.choices.integer(*options.operators)
    if source == "template":
        return _around_template(sketch, operators, options)
    start(sketch, options.dtypes)
    _extend(sketch, operators, options)
    return Growing(sketch, "written")


def _extend(sketch: Sketch, operators: int, options: Options) -> None:
    for _ in range(operators):
        if sketch.choices.chance(options.backward):
            grow_before(sketch)
        else:
            grow_after(sketch)


def _around_template(sketch: Sketch, operators: int, options: Options) -> Growing | None:
    """Context, the template, and more context that reads its results."""
    choices = sketch.choices
    rule = choices.one_of(patterns.rule_names())
    expects: Expectation = "refuses" if choices.chance(options.near_miss) else "fires"
    pattern = patterns.pattern(rule, expects, choices.integer(0, patterns.count(rule, expects) - 1))
    if expects == "refuses":
        sketch.banned = patterns.vocabulary(rule)
    before = choices.integer(0, operators // 2)
    if before:
        start(sketch, options.dtypes)
        _extend(sketch, before, options)
    place = embed(sketch, pattern.graph, fed=0.4)
    if place is None:
        return None
    growing = Growing(sketch, "template", rule, expects, tuple(place.required), tuple(place.results))
    if expects == "fires" and place.inside and choices.chance(options.intruding):
        sketch.closed.difference_update(place.inside)
        growing.rule = growing.expects = None
    sketch.pinned.update(name for name in place.results if name in sketch.leaves)
    results = [value for value in sketch.tensors() if value.name in place.results]
    if results and choices.chance(0.8):
        grow_after(sketch, results)
    _extend(sketch, operators - before, options)
    return growing


def _finished(growing: Growing, options: Options, dropped: Counter[str]) -> Graph | None:
    """The graph with its outputs chosen, once it is stable; None if it cannot be made so."""
    sketch = growing.sketch
    add_unused_input(sketch)
    lay_out_inputs(sketch)
    outputs = choose_outputs(sketch, growing.required, growing.alive)
    if random := [c.operator for c in sketch.calls if draws_random_numbers(c)]:
        dropped[f"{random[0]}: draws random numbers"] += 1
        return None
    if not options.screened:
        return sketch.graph(outputs)
    redraws = 0
    while culprit := unstable_value(sketch, outputs):
        if redraws < _REDRAWS:
            redraws += 1
            if _redrawn(sketch):
                continue
        dropped["an operator whose value rounding decides"] += 1
        kept = {name for result in growing.alive for name in needed_by(sketch, result)}
        if culprit in kept:
            return None
        sketch.without({culprit})
        if not sketch.calls:
            return None
        outputs = choose_outputs(sketch, growing.required, growing.alive)
    return sketch.graph(outputs)


def _redrawn(sketch: Sketch) -> bool:
    """Takes other values for the leaves, with which everything is finite."""
    before = sketch.seed
    for _ in range(_REDRAWS):
        if sketch.evaluate(sketch.choices.integer(0, 2**31 - 1)) is None:
            return True
    sketch.evaluate(before)
    return False
