"""The matrices of Strassen's algorithm: products of two by two parts in seven multiplications.

``A B = C`` is computed part by part, from seven products of sums of parts: ``M_p = (Σ left[p, i] A_i)
(Σ right[p, j] B_j)`` and ``C_q = Σ result[q, p] M_p``, with parts in the order 11, 12, 21, 22 (Strassen,
"Gaussian Elimination is not Optimal", Numerische Mathematik 13, 1969).
"""

from __future__ import annotations

STRASSEN_RULE = "strassen"
"""The name of the schedule rule, as artifacts keep it."""

IntegerMatrix = tuple[tuple[int, ...], ...]

LEFT: IntegerMatrix = (
    (1, 0, 0, 1),
    (0, 0, 1, 1),
    (1, 0, 0, 0),
    (0, 0, 0, 1),
    (1, 1, 0, 0),
    (-1, 0, 1, 0),
    (0, 1, 0, -1),
)
"""Of the parts of A, ``[7, 4]``."""

RIGHT: IntegerMatrix = (
    (1, 0, 0, 1),
    (1, 0, 0, 0),
    (0, 1, 0, -1),
    (-1, 0, 1, 0),
    (0, 0, 0, 1),
    (1, 1, 0, 0),
    (0, 0, 1, 1),
)
"""Of the parts of B, ``[7, 4]``."""

RESULT: IntegerMatrix = (
    (1, 0, 0, 1, -1, 0, 1),
    (0, 0, 1, 0, 1, 0, 0),
    (0, 1, 0, 1, 0, 0, 0),
    (1, -1, 1, 0, 0, 1, 0),
)
"""Of the seven products, ``[4, 7]``."""

PRODUCTS = len(LEFT)
