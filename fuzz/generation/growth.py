"""Graphs grow by operators, one after a value or before an input at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from graphopt.fuzz.generation.choices import weighted
from graphopt.fuzz.generation.sketch import Shape, Sketch, Value
from graphopt.fuzz.generation.specs import FAMILIES, Spec
from graphopt.fuzz.generation.specs.elementwise import ACTIVATIONS, UNARY
from graphopt.fuzz.graphs import Call, Leaf, Ref

_TRIES = 12
_AT_ANY_SIZE = frozenset((*ACTIVATIONS, *UNARY))
"""Operators whose arguments hold no sizes."""

_RANKS = ((2, 2.0), (3, 2.5), (4, 4.0), (1, 1.0), (5, 0.5), (0, 0.3))
_BATCHES = ((2, 4.0), (1, 2.0), (3, 2.0), (5, 1.0), (0, 0.3))


def first_shape(sketch: Sketch, ranks: Sequence[int] | None = None) -> Shape:
    """A shape for an input: mostly a batch of rows, sequences or images."""
    batch = weighted(sketch.choices, _BATCHES)
    rank = weighted(sketch.choices, [(r, w) for r, w in _RANKS if ranks is None or r in ranks])
    if rank == 4:  # at most 5 * 9 * 9 * 10 elements
        size = sketch.size(3, 9)
        wide = size if sketch.choices.chance(0.6) else sketch.size(1, 10)
        return (batch, sketch.size(1, 9), size, wide)
    rest = {1: 32, 2: 32, 3: 14, 5: 5}.get(rank, 1)
    return ((batch, *(sketch.size(1, rest) for _ in range(rank - 1)))) if rank else ()


def start(sketch: Sketch, dtypes: tuple[tuple[str, float], ...]) -> Ref:
    """Adds the first input."""
    return sketch.input(first_shape(sketch), weighted(sketch.choices, dtypes))


def grow_after(sketch: Sketch, among: list[Value] | None = None) -> Ref | None:
    """Adds an operator of the written table that reads a value of the graph.

    Args:
        among: the values to choose from; default: all of the graph, half of the time the newest.
    """
    values = sketch.tensors() if among is None else among
    if not values:
        return None
    for _ in range(_TRIES):
        newest = among is None and sketch.choices.chance(0.5)
        value = values[0] if newest else sketch.choices.one_of(values)
        fitting = [([s for s in specs if fits(sketch, s, value)], weight) for _, specs, weight in FAMILIES]
        if not any(specs for specs, _ in fitting):
            continue
        spec = sketch.choices.one_of(weighted(sketch.choices, [x for x in fitting if x[0]]))
        if found := sketch.attempt(partial(spec.grow, sketch, value)):
            return found
    return None


def replaceable(sketch: Sketch) -> list[Leaf]:
    """The inputs that an operator may be put before.

    Inputs of graphs with dynamic axes stay, since the written table and the rules know numbers only.
    """
    if sketch.sizes:
        return []
    return [
        leaf
        for leaf in sketch.leaves.values()
        if leaf.role == "input" and leaf.values == "normal" and leaf.name not in sketch.pinned
    ]


def grow_before(sketch: Sketch) -> bool:
    """Puts an operator of the written table before an input; the input is its result from then on."""
    leaves = replaceable(sketch)
    for _ in range(_TRIES if leaves else 0):
        leaf = sketch.choices.one_of(leaves)
        family = weighted(sketch.choices, [(specs, weight) for _, specs, weight in FAMILIES])
        backs = [spec.back for spec in family if spec.back is not None and spec.packet not in sketch.banned]
        if not backs:
            continue
        back, shape = sketch.choices.one_of(backs), sketch.shape_of(leaf)
        if sketch.attempt_before(leaf.name, partial(back, sketch, shape, leaf.dtype)):
            return True
    return False


def grow_again(sketch: Sketch) -> Ref | None:
    """Adds a call once more, with the same weights: on the same value, or on another one."""
    calls = [c for c in sketch.calls if _may_be_repeated(sketch, c)]
    if not calls or sketch.sizes:
        return None
    call = sketch.choices.one_of(calls)
    first = call.arguments[0]
    assert isinstance(first, Ref)
    value = sketch.value(first)
    others = [v for v in sketch.tensors() if v.rank == value.rank and v.dtype == value.dtype]
    if others and sketch.choices.chance(0.7):
        first = sketch.choices.one_of(others).ref
    return sketch.attempt(
        lambda: sketch.call(call.operator, first, *call.arguments[1:], **dict(call.keywords))
    )


def _may_be_repeated(sketch: Sketch, call: Call) -> bool:
    known = bool(call.arguments) and isinstance(call.arguments[0], Ref)
    return known and "getitem" not in call.operator and not sketch.closed & {call.name, *call.uses}


def fits(sketch: Sketch, spec: Spec, value: Value) -> bool:
    """Whether an operator may be added after a value."""
    if sketch.sizes and spec not in _AT_ANY_SIZE:
        return False
    return spec.packet not in sketch.banned and spec.accepts(value)
