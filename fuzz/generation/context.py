"""How a case grows: operators of a source alone, or context around a template."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.fuzz.cases import Expectation, Origin
from graphopt.fuzz.generation import patterns, ruled
from graphopt.fuzz.generation.blocks import BLOCKS, add_block
from graphopt.fuzz.generation.choices import weighted
from graphopt.fuzz.generation.embedding import embed
from graphopt.fuzz.generation.growth import grow_after, grow_again, grow_before, replaceable, start
from graphopt.fuzz.generation.options import Options, Source
from graphopt.fuzz.generation.patterns import Pattern
from graphopt.fuzz.generation.sketch import Sketch

_FED = 0.4
"""Probability that an input of a template is computed by its context; each."""

_READ = 0.8
"""Probability that the context reads a template's result at once."""

_AROUND_TEMPLATES: tuple[tuple[Source, float], ...] = (
    ("written", 2.0),
    ("inferred", 1.0),
    ("recorded", 1.0),
)
_OF_THE_SOURCE = 0.75
"""Probability that an operator of a graph of recorded or inferred ones is such a one."""

_TRIES = 6
_AGAIN = 0.08
"""Probability that an operator is one that the graph has, with the same weights."""


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


def of_operators(sketch: Sketch, source: Source, options: Options) -> Growing:
    """A graph of single operators, most of them of one source."""
    rules = ruled.table() if source == "recorded" else None
    if rules is None or not sketch.attempt(lambda: ruled.start_recorded(sketch, rules)):
        start(sketch, options.dtypes)
    _extend(sketch, sketch.choices.integer(*options.operators), options, source)
    assert source != "template"
    return Growing(sketch, source)


def drawn_pattern(sketch: Sketch, options: Options) -> Pattern:
    """A template: any rule, then positive or near miss, then one of them."""
    choices = sketch.choices
    rule = choices.one_of(patterns.rule_names())
    expects: Expectation = "refuses" if choices.chance(options.near_miss) else "fires"
    return patterns.pattern(rule, expects, choices.integer(0, patterns.count(rule, expects) - 1))


def around(sketch: Sketch, pattern: Pattern, options: Options) -> Growing | None:
    """Context, a rule's template, and more context that reads its results.

    What is inside a template gets no other user.  Around a near miss stands no operator of the rule's
    pattern, which might complete it.

    Returns:
        None where torch refuses the template, or a value in it is not finite.
    """
    choices = sketch.choices
    operators = choices.integer(*options.operators)
    if pattern.expects == "refuses":
        sketch.banned = patterns.vocabulary(pattern.rule)
    dynamic = pattern.needs_dynamic_axes or (
        bool(pattern.graph.dynamic_names()) and choices.chance(options.dynamic)
    )
    before = 0 if dynamic else choices.integer(0, operators // 2)
    if before:
        start(sketch, options.dtypes)
        _extend(sketch, before, options, "template")
    place = embed(sketch, pattern.graph, fed=_FED, dynamic=dynamic)
    if place is None:
        return None
    growing = Growing(
        sketch, "template", pattern.rule, pattern.expects, tuple(place.required), tuple(place.results)
    )
    if pattern.expects == "fires" and place.inside and choices.chance(options.intruding):
        sketch.closed.difference_update(place.inside)
        growing.rule = growing.expects = None
    sketch.pinned.update(name for name in place.results if name in sketch.leaves)
    results = [value for value in sketch.tensors() if value.name in place.results]
    if results and choices.chance(_READ):
        grow_after(sketch, results)
    _extend(sketch, operators - before, options, "template")
    return growing


def around_block(sketch: Sketch, options: Options) -> Growing | None:
    """Context, a block of a model, and more context that reads its result."""
    choices = sketch.choices
    operators = choices.integer(*options.operators)
    before = choices.integer(0, operators // 2)
    if before:
        start(sketch, options.dtypes)
        _extend(sketch, before, options, "template")
    block = add_block(sketch, choices.one_of(tuple(BLOCKS)))
    if block is None:
        return None
    required = tuple(ref.name for ref in block.cache)
    _extend(sketch, operators - before, options, "template")
    return Growing(sketch, "template", required=required, alive=(block.result.name, *required))


def _extend(sketch: Sketch, operators: int, options: Options, source: Source) -> None:
    """Adds operators: most of a source, if it is one of operators, some of others."""
    for _ in range(operators):
        if sketch.choices.chance(_AGAIN):
            grow_again(sketch)
            continue
        drawn = source
        if source == "template":
            drawn = weighted(sketch.choices, _AROUND_TEMPLATES)
        elif not sketch.choices.chance(_OF_THE_SOURCE):
            drawn = "written"
        _step(sketch, drawn, before=sketch.choices.chance(options.backward))


def _step(sketch: Sketch, source: Source, before: bool) -> None:
    rules = ruled.table() if source in ("recorded", "inferred") and not sketch.sizes else None
    for _ in range(_TRIES if rules is not None else 0):
        assert rules is not None
        solved = source == "inferred"
        if before:
            leaves = replaceable(sketch)
            if leaves and ruled.put_before(sketch, rules, sketch.choices.one_of(leaves), solved=solved):
                return
        elif ruled.add_after(sketch, rules, solved=solved):
            return
    if before:
        grow_before(sketch)
    else:
        grow_after(sketch)
