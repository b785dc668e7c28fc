"""Hypothesis strategies of graphs, cases and tensors.

They draw from the same tables as :mod:`graphopt.fuzz.generation`, one decision at a time, so that
hypothesis can shrink: whether there is an operator is a draw of its own, an operator is one of those
that can read a value, the newest value comes first, and no draw is rejected.  A strategy over seeds of
the generator would not shrink at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, TypeVar

import torch
from hypothesis import strategies as st

from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.generation.context import around
from graphopt.fuzz.generation.finish import choose_outputs
from graphopt.fuzz.generation.growth import first_shape
from graphopt.fuzz.generation.options import Options
from graphopt.fuzz.generation.patterns import count, pattern, rule_names
from graphopt.fuzz.generation.screening import draws_random_numbers
from graphopt.fuzz.generation.sketch import Sketch
from graphopt.fuzz.generation.specs import SPECS, Spec
from graphopt.fuzz.graphs import Graph, Leaf, draw_leaf, dtype_named

T = TypeVar("T")

SEEDS = st.integers(0, 2**16 - 1)
_OPTIONS = Options(operators=(0, 3), dynamic=0.0, intruding=0.0)
_ANOTHER = st.integers(0, 3)
"""Whether there is an operator: 0 is no.  Plain booleans would make most graphs small."""

_WHICH = st.integers(0, 15)
"""Which value is read, modulo how many there are: the same draw whatever stands before."""

_SPECIAL = (0.0, 1.0, -1.0, 0.5, 1e-4, 1e4)

_integers = lru_cache(maxsize=None)(st.integers)
"""Building a strategy takes longer than drawing from it."""


class _Drawn:
    """Decisions that hypothesis makes (see :class:`graphopt.fuzz.generation.choices.Choices`)."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def one_of(self, options: Sequence[T]) -> T:
        return options[self._draw(_integers(0, len(options) - 1))]

    def integer(self, low: int, high: int) -> int:
        return self._draw(_integers(low, high))

    def chance(self, probability: float) -> bool:
        return self._draw(_integers(0, 99)) >= 100 - round(100 * probability)


@st.composite
def graphs(
    draw: st.DrawFn,
    *,
    operators: Sequence[str] | None = None,
    most: int = 8,
    dtypes: Sequence[str] = ("float32",),
    ranks: Sequence[int] | None = None,
    features: bool = False,
    seed: int = 0,
) -> Graph:
    """Graphs of up to ``most`` operators; simpler ones have fewer, and smaller sizes.

    Args:
        operators: only these (``aten.relu``), in the order of the written table; default: all of it.
        dtypes: of the first input, the simplest first.
        ranks: of the first input; default: any.
        features: also intermediate values as outputs, outputs that stand there twice, dead code, and
            inputs that are returned.
        seed: of the values that decide which operators are well-defined; build the program with it.

    Raises:
        ValueError: the table has none of the operators.
    """
    specs = [s for s in SPECS if operators is None or s.packet in operators]
    if operators is not None and (unknown := set(operators) - {s.packet for s in specs}):
        raise ValueError(f"the table has no {', '.join(sorted(unknown))}")
    sketch = Sketch(_Drawn(draw), seed)
    shape = first_shape(sketch, ranks)
    sketch.input(shape, draw(st.sampled_from(list(dtypes))))
    for _ in range(most):
        draw(_step(sketch, specs))
    if features:
        return sketch.graph(choose_outputs(sketch))
    return sketch.graph(tuple(sketch.sinks() or sketch.leaves)[:8])


@st.composite
def _step(draw: st.DrawFn, sketch: Sketch, specs: Sequence[Spec]) -> None:
    """One operator or none.

    It is a strategy of its own because hypothesis tries the simplest of each, here none: that takes an
    operator out and leaves the others alone.
    """
    if not draw(_ANOTHER):
        return
    options = [(v, fitting) for v in sketch.tensors() if (fitting := [s for s in specs if s.accepts(v)])]
    if options:
        value, fitting = options[draw(_WHICH) % len(options)]
        spec = draw(st.sampled_from(fitting))
        sketch.attempt(partial(spec.grow, sketch, value))


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    passes: Sequence[str] = ("cleanup",),
    rules: Sequence[str] | None = None,
    templates: bool = True,
    **options: Any,
) -> FuzzCase:
    """Cases: of single operators (see :func:`graphs`, which takes the other arguments), or around a
    template of a rewrite rule.

    Args:
        rules: the rules whose templates are drawn, simplest first; default: all.
        templates: False draws none.
    """
    seed = draw(SEEDS)
    if not templates or not draw(st.booleans()):
        graph = draw(graphs(seed=seed, **options))
        return FuzzCase(graph, tuple(passes), seed, "written")
    rule = draw(st.sampled_from(list(rules if rules is not None else rule_names())))
    fires = not draw(st.booleans())
    expects = "fires" if fires else "refuses"
    index = draw(st.integers(0, count(rule, expects) - 1))  # type: ignore[arg-type]
    template = pattern(rule, expects, index)  # type: ignore[arg-type]
    sketch = Sketch(_Drawn(draw), seed)
    growing = around(sketch, template, _OPTIONS)
    if growing is None or any(map(draws_random_numbers, sketch.calls)):
        # A template that overflows or draws random numbers: nothing to compare, so a case without it.
        return FuzzCase(draw(graphs(seed=seed, **options)), tuple(passes), seed, "written")
    graph = sketch.graph(choose_outputs(sketch, growing.required, growing.alive))
    return FuzzCase(graph, tuple(passes), seed, growing.origin, rule=growing.rule, expects=growing.expects)


@st.composite
def tensors(
    draw: st.DrawFn,
    *,
    shape: Sequence[int] | None = None,
    dtypes: Sequence[str] = ("float32",),
    special: Sequence[float] = _SPECIAL,
) -> torch.Tensor:
    """Tensors whose elements come from a drawn seed, with up to three special values.

    Args:
        shape: default: up to four axes of up to six elements.
        dtypes: the simplest first.
        special: floating-point values of interest; integer and boolean tensors get none.
    """
    sizes = draw(st.lists(st.integers(0, 6), max_size=4)) if shape is None else list(shape)
    dtype = draw(st.sampled_from(list(dtypes)))
    leaf = Leaf("x", tuple(sizes), dtype)
    tensor = draw_leaf(leaf, tuple(sizes), draw(SEEDS)).contiguous()
    if not dtype_named(dtype).is_floating_point or not tensor.numel():
        return tensor
    places = st.tuples(st.integers(0, tensor.numel() - 1), st.sampled_from(list(special)))
    for place, value in draw(st.lists(places, max_size=3)) if special else ():
        tensor.view(-1)[place] = value
    return tensor
