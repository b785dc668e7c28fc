"""Matrices of Winograd's short convolutions, by the Toom-Cook construction.

``F(m, r)`` computes ``m`` outputs of a correlation with ``r`` taps in ``m + r - 1`` multiplications:
``y = Aᵀ [(G g) ⊙ (Bᵀ d)]``.  Polynomials are evaluated at ``m + r - 2`` points and at infinity, multiplied
there and interpolated (Winograd, *Arithmetic Complexity of Computations*, SIAM 1980; for networks: Lavin and
Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).  All in exact fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

TAPS = 3

WINOGRAD_RULE = "winograd"
"""The name of the schedule rule, as artifacts keep it."""

# What is chosen decides how much rounding errors grow (Barabasz, Anderson, Soodhalter and Gregg, "Error
# Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", arXiv:1803.10986).
# For m = 4 the root mean square error over that of a direct sum is 11 with 0, ±1, ±2, 7 with the paper's
# 0, ±1, 1/2, -2, and 5 with these, the best of all pairs of eighths; their transforms are exact in float32.
POINTS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)),
}

Matrix = tuple[tuple[Fraction, ...], ...]


class Transforms(NamedTuple):
    """The three matrices of ``F(m, 3)``.

    Attributes:
        output: ``Aᵀ``, ``[m, m + 2]``.
        weight: ``G``, ``[m + 2, 3]``.
        input: ``Bᵀ``, ``[m + 2, m + 2]``.
    """

    output: Matrix
    weight: Matrix
    input: Matrix


def transforms(outputs: int) -> Transforms:
    """The matrices of ``F(outputs, 3)``; KeyError where there are no :data:`POINTS`."""
    points = POINTS[outputs]
    zero, one = Fraction(0), Fraction(1)
    result = [(*(p**i for p in points), one if i == outputs - 1 else zero) for i in range(outputs)]
    weight, data = [], []
    for j, point in enumerate(points):
        others = [q for k, q in enumerate(points) if k != j]
        scale = one
        for other in others:
            scale *= point - other
        weight.append(tuple(point**i / scale for i in range(TAPS)))
        data.append((*_with_roots(others), zero))
    weight.append((zero,) * (TAPS - 1) + (one,))
    data.append(tuple(_with_roots(points)))
    return Transforms(tuple(result), tuple(weight), tuple(data))


def additions(matrix: Matrix) -> int:
    """Multiply-adds of a product with the matrix: what is not zero in it."""
    return sum(value != 0 for row in matrix for value in row)


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots and leading coefficient one, lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [a - root * b for a, b in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients
