"""From what a model demands of its sizes to dimensions that satisfy it.

A demand on a single size is met by restricting it to a multiple (a feature pyramid needs height and
width divisible by 32), or, where no multiple helps, by fixing it.  Both are noted, never silent.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace

import sympy

from graphopt.errors import InputError
from graphopt.frontends.onnx.dims import Dimension, InputShape, make_static
from graphopt.frontends.onnx.probe import Facts, holds, symbol
from graphopt.ir.signature import DimRange

_MULTIPLES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 56, 64, 96, 112, 128, 224, 256)
_CHECKED = 9


def narrow(facts: Facts, shapes: list[InputShape], dimensions: dict[str, Dimension]) -> list[str]:
    """Restricts ``dimensions`` (and ``shapes``) to sizes that satisfy ``facts``; returns notes on it.

    Args:
        facts: of a successful probe; a dimension that is fixed may get a smaller example size.
        shapes, dimensions: changed in place; empty notes mean that nothing had to change.

    Raises:
        InputError: GO-3006, when a range that the user gave would have to be narrowed to one size.
    """
    notes: list[str] = []
    for name, (size, node) in facts.fixed.items():
        if name in dimensions:
            notes.append(_fix(name, size, node, shapes, dimensions))
    for condition, node in facts.conditions:
        # Dimensions that have one size by now count with it.
        sides = [side.xreplace(_fixed_sizes(facts, dimensions)) for side in condition.args]
        condition = sympy.Eq(*sides, evaluate=False)
        names = sorted(str(s) for s in condition.free_symbols)
        if not names or _always_holds(condition, facts.sizes, dimensions):
            continue
        names, multiple = _least_demand(condition, names, facts.sizes, dimensions)
        for name in names:
            if multiple is None or facts.sizes[name] % multiple:
                facts.sizes[name] = _least_size(name, facts, dimensions[name])
                notes.append(_fix(name, facts.sizes[name], node, shapes, dimensions))
                continue
            old = dimensions[name].range
            low = -(-max(old.min, multiple) // multiple) * multiple
            dimensions[name] = replace(dimensions[name], range=DimRange(low, old.max, multiple))
            # torch.export takes a single step of a multiple for a constant.
            facts.sizes[name] = max(facts.sizes[name], 2 * multiple)
            notes.append(f"dimension {name!r} must be a multiple of {multiple}: {node} needs it")
    return list(dict.fromkeys(notes))


def _least_size(name: str, facts: Facts, dimension: Dimension) -> int:
    """The size to fix a dimension at, where several satisfy the conditions.

    The smallest of those that the most powers of two divide: PP-OCRv4's recogniser takes heights from 41
    to 79 and was trained on 48.
    """
    conditions = [c for c, _ in facts.conditions if symbol(name) in c.free_symbols]
    for step in (16, 8, 4, 2, 1):
        for size in range(step, facts.sizes[name], step):
            if size in dimension.range and all(holds(c, {**facts.sizes, name: size}) for c in conditions):
                return size
    return facts.sizes[name]


def _fixed_sizes(facts: Facts, dimensions: Mapping[str, Dimension]) -> dict[sympy.Symbol, sympy.Integer]:
    return {symbol(name): sympy.Integer(size) for name, size in facts.sizes.items() if name not in dimensions}


def _fix(name: str, size: int, node: str, shapes: list[InputShape], dimensions: dict[str, Dimension]) -> str:
    because = f": {node} needs it" if node else ""
    if dimensions[name].user_range:
        raise InputError(
            f"dimension {name!r} cannot vary over {dimensions[name].range}; it must be {size}{because}",
            code="GO-3006",
            node=node or None,
            layer=node or None,
            hint=f"give its size: dims={{{name!r}: {size}}}",
        )
    make_static(shapes, dimensions, name, size)
    return f"dimension {name!r} is always {size}{because}"


def _steps(dimension: Dimension, multiple: int) -> list[int]:
    """The first few sizes that a dimension may have if it must be a multiple."""
    bounds = dimension.range
    start = -(-max(bounds.min, multiple) // multiple) * multiple
    sizes = [start + i * multiple for i in range(_CHECKED)]
    return [s for s in sizes if s in bounds]


def _always_holds(
    condition: sympy.Basic, sizes: Mapping[str, int], dimensions: Mapping[str, Dimension]
) -> bool:
    names = [str(s) for s in condition.free_symbols]
    return all(
        holds(condition, {**sizes, name: size})
        for name in names
        for size in _steps(dimensions[name], dimensions[name].range.multiple_of)
    )


def _least_demand(
    condition: sympy.Basic,
    names: list[str],
    sizes: Mapping[str, int],
    dimensions: Mapping[str, Dimension],
) -> tuple[list[str], int | None]:
    """The fewest dimensions that must be multiples for a condition to hold, and of what.

    A number of elements has every dimension as a factor, and most of them cancel.
    """
    for count in range(1, len(names) + 1):
        for some in itertools.combinations(names, count):
            multiple = _common_multiple(condition, names, some, sizes, dimensions)
            if multiple is not None:
                return list(some), multiple
    return names, None


def _common_multiple(
    condition: sympy.Basic,
    names: list[str],
    restricted: Collection[str],
    sizes: Mapping[str, int],
    dimensions: Mapping[str, Dimension],
) -> int | None:
    """The least multiple that, asked of the ``restricted`` dimensions of a condition, makes it hold."""
    for multiple in _MULTIPLES:
        rows = [
            _steps(dimensions[n], multiple if n in restricted else dimensions[n].range.multiple_of)
            for n in names
        ]
        if any(len(r) < 2 for r in rows):
            continue
        pairs = [
            {
                **sizes,
                **dict(zip(names, (row[i % len(row)] for i, row in enumerate(rows, start=k)), strict=True)),
            }
            for k in range(_CHECKED)
        ]
        steps_of_one = [{**sizes, n: s} for n, row in zip(names, rows, strict=True) for s in row]
        if all(holds(condition, trial) for trial in (*pairs, *steps_of_one)):
            return multiple
    return None
