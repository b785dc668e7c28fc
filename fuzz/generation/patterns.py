"""Templates of rewrite rules as graphs, and what must stay away from them.

Capturing a template takes torch.export, so each is captured when it is first drawn, and once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from graphopt.fuzz.cases import Expectation
from graphopt.fuzz.graphs import Graph, graph_of
from graphopt.fuzz.templates import Case, Template, all_templates
from graphopt.passes.cleanup.families import all_rules
from graphopt.rewriting.pattern import Call, Either, Rest, Where
from graphopt.rewriting.rule import RewriteRule, compiled_pattern

_FACTORIES = {
    f"aten.{stem}{like}"
    for stem in "zeros ones full arange eye scalar_tensor new_zeros new_ones new_full".split()
    for like in ("", "_like")
}
"""Their results are constants to a rule that asks, though they come from an input."""

_NEED_DYNAMIC_AXES = {("reshape-of-reshape", "merges and splits symbolic sizes")}
"""Near misses that are positives once their axes have fixed sizes."""


@dataclass(frozen=True)
class Pattern:
    """A template of a rule as a graph.

    Attributes:
        graph: as captured, with its dynamic axes.
        rule: the rule's name.
        expects: what the rule has to do.
        words: what is special about it.
        needs_dynamic_axes: whether it is a near miss only as long as sizes are unknown.
    """

    graph: Graph
    rule: str
    expects: Expectation
    words: str
    needs_dynamic_axes: bool = False


@lru_cache(maxsize=1)
def rules() -> dict[str, RewriteRule]:
    """Every rule of the clean-up passes, by name."""
    return all_rules()


@lru_cache(maxsize=1)
def _templates() -> dict[str, Template]:
    return all_templates()


@lru_cache(maxsize=1)
def rule_names() -> tuple[str, ...]:
    """The rules that have templates, in order of their names."""
    return tuple(sorted(_templates()))


def count(rule: str, expects: Expectation) -> int:
    """How many templates a rule has."""
    return len(_cases(rule, expects))


@cache
def pattern(rule: str, expects: Expectation, index: int) -> Pattern:
    """A template of a rule."""
    case = _cases(rule, expects)[index]
    needs_dynamic_axes = (rule, case.words) in _NEED_DYNAMIC_AXES
    return Pattern(graph_of(case.program()), rule, expects, case.words, needs_dynamic_axes)


@cache
def vocabulary(rule: str) -> frozenset[str]:
    """The operators (``aten.relu``) that the rule looks at: where a near miss stands, one more of them
    may complete the pattern."""
    packets = {name for looked_for in compiled_pattern(rules()[rule]) for name in _packets(looked_for)}
    for i in range(count(rule, "fires")):
        packets.update(call.operator.rpartition(".")[0] for call in pattern(rule, "fires", i).graph.calls)
    return frozenset(packets | _FACTORIES) - {"operator", "aten.sym_size"}


def _packets(looked_for: Any) -> Iterator[str]:
    """Every operator in the pattern of a rule."""
    match looked_for:
        case Call():
            yield from map(str, looked_for.packets)
            for operand in (*looked_for.args, *looked_for.kwargs.values()):
                yield from _packets(operand)
        case Either():
            for option in looked_for.options:
                yield from _packets(option)
        case Where():
            yield from _packets(looked_for.inner)
        case Rest():
            yield from _packets(looked_for.each)
        case list() | tuple():
            for item in looked_for:
                yield from _packets(item)


def _cases(rule: str, expects: Expectation) -> tuple[Case, ...]:
    template = _templates()[rule]
    return template.positive if expects == "fires" else template.near_misses
