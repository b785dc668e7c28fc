"""Rules for output sizes: which symbols one depends on, and expressions that explain it.

Expressions come from templates first (constant, copy, linear, monomial, broadcast, windows), then from
enumeration.  All that fit are kept, simplest first: counterexamples decide between them later.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from graphopt.fuzz.inference.enumeration import enumerated
from graphopt.fuzz.rules.expressions import Constant, Expression, Operation, Symbol, evaluator

MAX_CANDIDATES = 4
MAX_BROADCAST = 6
"""Symbols of which the greatest may be a size."""
ONE, TWO = Constant(1), Constant(2)


def add(a: Expression, b: Expression) -> Expression:
    """``a + b``, without zeros."""
    if a == Constant(0):
        return b
    return a if b == Constant(0) else Operation("+", a, b)


def subtract(a: Expression, b: Expression) -> Expression:
    """``a - b``, without zeros."""
    return a if b == Constant(0) else Operation("-", a, b)


def multiply(a: Expression, b: Expression) -> Expression:
    """``a * b``, without ones and zeros."""
    if Constant(0) in (a, b):
        return Constant(0)
    if a == ONE:
        return b
    return a if b == ONE else Operation("*", a, b)


def divide(a: Expression, b: Expression) -> Expression:
    """``a // b``, without ones."""
    return a if b == ONE else Operation("//", a, b)


def dependents(names: Sequence[str], rows: np.ndarray, targets: np.ndarray) -> list[list[tuple[str, ...]]]:
    """For each output size the sets of symbols that it may depend on, likelier ones first.

    Two calls that differ in one symbol and in an output show a dependency: they make the first set.
    Where it does not explain all differences (some symbols only change together), the second has more:
    what differs between the closest calls that disagree, which may be too much.

    Args:
        names: of the columns of ``rows``; no two columns are equal.
        rows: values, one row a valid call.
        targets: output sizes, one row a call.
    """
    count = targets.shape[1]
    shown: list[set[int]] = [set() for _ in range(count)]
    for i in range(len(names)):
        groups: dict[bytes, int] = {}
        others = np.delete(rows, i, axis=1)
        for row in range(len(rows)):
            first = groups.setdefault(others[row].tobytes(), row)
            if first != row:
                for output in np.flatnonzero(targets[first] != targets[row]).tolist():
                    shown[output].add(i)
    found = []
    for output, indices in enumerate(shown):
        enough = set(indices)
        while (more := _unexplained(rows, targets[:, output], sorted(enough))) is not None:
            enough |= more
        sets = [indices] if enough == indices else [indices, enough]
        found.append([tuple(names[i] for i in sorted(chosen)) for chosen in sets])
    return found


def _unexplained(rows: np.ndarray, target: np.ndarray, known: list[int]) -> set[int] | None:
    """Further symbols, of two calls that agree in the known ones and differ in the output."""
    groups: dict[bytes, list[int]] = {}
    for row in range(len(rows)):
        groups.setdefault(rows[row, known].tobytes(), []).append(row)
    best: set[int] | None = None
    for members in groups.values():
        values = target[members]
        for first, second in itertools.islice(itertools.combinations(range(len(members)), 2), 2000):
            if values[first] != values[second]:
                differing = set(np.flatnonzero(rows[members[first]] != rows[members[second]]).tolist())
                if best is None or len(differing) < len(best):
                    best = differing
    return best


def candidates(
    likely: Sequence[Sequence[str]],
    columns: Mapping[str, np.ndarray],
    target: np.ndarray,
    constants: Sequence[int] = (),
) -> list[Expression]:
    """Expressions that give the target in every row, simplest first; none if there is no such.

    Args:
        likely: sets of symbols that may occur; one is tried after the other.
        columns: their values.
        target: the output size in each row.
        constants: numbers that may occur beside 1 and 2.
    """
    for depends in likely:
        if found := _fitting(depends, columns, target):
            return found
    for depends in likely:
        if depends and (found := enumerated(depends, columns, target, constants)):
            return found[:MAX_CANDIDATES]
    return []


def _fitting(
    depends: Sequence[str], columns: Mapping[str, np.ndarray], target: np.ndarray
) -> list[Expression]:
    """The templates that fit."""
    found: dict[str, Expression] = {}
    for expression in _templates(depends, columns, target):
        if np.array_equal(np.broadcast_to(evaluator(expression)(columns), target.shape), target):
            found.setdefault(str(expression), expression)
            if len(found) == MAX_CANDIDATES:
                break
    return list(found.values())


def _templates(
    depends: Sequence[str], columns: Mapping[str, np.ndarray], target: np.ndarray
) -> Iterator[Expression]:
    if (target == target[0]).all():
        yield Constant(int(target[0]))
    leaves = [Symbol(name) for name in depends]
    if not leaves:
        return
    if len(leaves) == 1:
        yield leaves[0]
    yield from _linear(depends, columns, target)
    yield from _monomial(depends, columns, target)
    if len(leaves) >= 2:
        for count in range(len(leaves), 1, -1):
            for some in itertools.combinations(leaves[:MAX_BROADCAST], count):
                yield _chain("max", some)
        yield _chain("min", leaves)
    if len(leaves) == 1:
        yield from _scaled(leaves[0])
    if 2 <= len(leaves) <= 6:
        yield from windows(leaves)
        yield from _transposed(leaves)
    if 2 <= len(leaves) <= 4:
        yield from _slices(leaves)
    yield from _unfolded(depends)


def _chain(operator: str, parts: Sequence[Expression]) -> Expression:
    result = parts[0]
    for part in parts[1:]:
        result = Operation(operator, result, part)
    return result


def _linear(
    depends: Sequence[str], columns: Mapping[str, np.ndarray], target: np.ndarray
) -> Iterator[Expression]:
    """``c0 + c1 s1 + …`` with integers, by least squares."""
    matrix = np.stack([columns[name] for name in depends] + [np.ones_like(target)], axis=1).astype(float)
    solution, _, rank, _ = np.linalg.lstsq(matrix, target.astype(float), rcond=None)
    factors = np.rint(solution).astype(int)
    if rank < matrix.shape[1] or np.abs(solution - factors).max() > 1e-6 or np.abs(factors).max() > 16:
        return
    plus = [(Symbol(n), int(f)) for n, f in zip(depends, factors[:-1], strict=True) if f > 0]
    minus = [(Symbol(n), int(-f)) for n, f in zip(depends, factors[:-1], strict=True) if f < 0]
    result: Expression = Constant(0)
    for symbol, factor in plus:
        result = add(result, multiply(Constant(factor), symbol))
    for symbol, factor in minus:
        result = subtract(result, multiply(Constant(factor), symbol))
    offset = int(factors[-1])
    yield add(result, Constant(offset)) if offset >= 0 else subtract(result, Constant(-offset))


def _monomial(
    depends: Sequence[str], columns: Mapping[str, np.ndarray], target: np.ndarray
) -> Iterator[Expression]:
    """A product over a product, ``c s1 s2 // (s3 s3)``, by least squares of logarithms."""
    if target.min() < 1 or any(columns[name].min() < 1 for name in depends):
        return
    logs = np.log(np.stack([columns[name] for name in depends] + [np.full_like(target, 2)], axis=1))
    solution, _, rank, _ = np.linalg.lstsq(logs, np.log(target), rcond=None)
    powers = np.rint(solution).astype(int)
    if rank < logs.shape[1] or np.abs(solution - powers).max() > 1e-6 or np.abs(powers).max() > 4:
        return
    terms: list[Expression] = [Symbol(name) for name in depends]
    terms.append(TWO)
    over: list[Expression] = [t for t, p in zip(terms, powers, strict=True) for _ in range(p)]
    under: list[Expression] = [t for t, p in zip(terms, powers, strict=True) for _ in range(-p)]
    yield divide(_chain("*", over) if over else ONE, _chain("*", under) if under else ONE)


def _scaled(leaf: Expression) -> Iterator[Expression]:
    """A size times a rational number, rounded down or up; what chunks of a rounded-up part leave over."""
    for q, p in itertools.product(range(1, 11), range(1, 21)):
        if math.gcd(p, q) == 1:
            scaled = multiply(Constant(p), leaf)
            yield divide(scaled, Constant(q))
            yield divide(add(scaled, Constant(q - 1)), Constant(q))
    for q in range(2, 9):
        chunk = divide(add(leaf, Constant(q - 1)), Constant(q))
        yield subtract(leaf, multiply(Constant(q - 1), chunk))


def _roles(leaves: Sequence[Expression]) -> Iterator[tuple[Expression, ...]]:
    """Size, kernel, stride, padding, dilation: each way that uses every leaf once.

    A stride that is not given may be the kernel.
    """
    for chosen in itertools.permutations(leaves, 2):
        rest = [leaf for leaf in leaves if leaf not in chosen]
        for places in itertools.permutations(range(3), len(rest)) if len(rest) <= 3 else ():
            roles: list[Expression] = [ONE, Constant(0), ONE]
            for leaf, place in zip(rest, places, strict=True):
                roles[place] = leaf
            yield (*chosen, *roles)
            if 0 not in places:
                yield (*chosen, chosen[1], *roles[1:])


def windows(leaves: Sequence[Expression]) -> Iterator[Expression]:
    """Sizes of sliding windows, as convolution and pooling document them.

    The last one of the rounded-up form starts inside the input or its left padding.
    """
    for extent, kernel, stride, padding, dilation in _roles(leaves):
        padded = add(extent, multiply(TWO, padding))
        span = multiply(dilation, subtract(kernel, ONE))
        inner = subtract(subtract(padded, span), ONE)
        yield add(divide(inner, stride), ONE)
        if stride != ONE:
            rounded_up = divide(subtract(add(inner, stride), ONE), stride)
            inside = divide(subtract(add(extent, padding), ONE), stride)
            yield add(Operation("min", rounded_up, inside), ONE)
            yield add(rounded_up, ONE)


def _transposed(leaves: Sequence[Expression]) -> Iterator[Expression]:
    """Sizes of transposed convolutions and of unpooling."""
    for extra in (Constant(0), *leaves):
        for extent, kernel, stride, padding, dilation in _roles([leaf for leaf in leaves if leaf != extra]):
            reach = subtract(multiply(subtract(extent, ONE), stride), multiply(TWO, padding))
            span = multiply(dilation, subtract(kernel, ONE))
            yield add(add(add(reach, span), extra), ONE)


def _slices(leaves: Sequence[Expression]) -> Iterator[Expression]:
    """Sizes of slices: an end beyond the size means the size."""
    for order in itertools.permutations(leaves):
        extent, end, *rest = order
        last = Operation("min", extent, end)
        begins: list[tuple[Expression, Expression]] = [(Constant(0), ONE)]
        if len(rest) == 1:
            begins = [(rest[0], ONE), (Constant(0), rest[0])]
        elif len(rest) == 2:
            begins = [(rest[0], rest[1])]
        for begin, step in begins:
            length = subtract(last, begin)
            yield length if step == ONE else divide(subtract(add(length, step), ONE), step)


def _unfolded(depends: Sequence[str]) -> Iterator[Expression]:
    """Numbers of two-dimensional windows: a product of two sizes of windows, one an axis."""
    attributes = [name for name in depends if name[-2:] in ("_0", "_1") and name[:-2] + "_0" in depends]
    axes = [[n for n in attributes if n.endswith(end)] for end in ("_0", "_1")]
    extents = [name for name in depends if name[-2:] in ("_2", "_3", "_1") and name not in attributes]
    if len(extents) != 2 or len(axes[0]) != len(axes[1]) or not axes[0] or len(axes[0]) > 4:
        return
    for first, second in zip(
        windows([Symbol(n) for n in (extents[0], *axes[0])]),
        windows([Symbol(n) for n in (extents[1], *axes[1])]),
        strict=True,
    ):
        yield multiply(first, second)
