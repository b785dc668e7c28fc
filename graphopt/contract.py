"""What a pass promises about its result, in classes that verification and the fuzzer read.

A pass declares one :class:`Equivalence`; no test and no user sets a tolerance.  From the strongest
to the weakest:

=============== =======================================================================
class           promise
=============== =======================================================================
``BitExact``    the result equals its reference bit for bit (integer arithmetic)
``Exact``       equal in exact arithmetic; in floating point equal up to rounding noise
``ExactWhen``   ``Exact`` on the inputs or weights that satisfy a stated precondition
``Bounded``     the error of each output is at most a bound derived from the weights
``Lossy``       a declared metric on calibration data stays within a budget
=============== =======================================================================

Contracts compose: ``first.then(second)`` is what remains of the two promises when the passes run
one after the other.  How large "rounding noise" is, and the factors of the rule that decides, are
in :mod:`graphopt.verification.rule` and nowhere else.

Nothing here imports torch: contracts are class attributes of passes and are read by ``--help``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Equivalence:
    """Base of the contracts.

    Attributes:
        rank: 0 for the strongest promise; composition keeps the higher rank.
    """

    @property
    def rank(self) -> int:
        return _RANKS[type(self)]

    def then(self, following: Equivalence) -> Equivalence:
        """The contract of a pass with this contract followed by one with ``following``."""
        return compose(self, following)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form for reports; callables appear by name."""
        return {"kind": type(self).__name__, "text": str(self)}


@dataclass(frozen=True)
class Exact(Equivalence):
    """Equal in exact arithmetic.

    Checked twice.  In float64, when the result is a program: both graphs agree to
    ``FLOAT64_RELATIVE`` (constants that the pass folded in float32 are allowed their rounding).
    As it runs: the error against the float64 reference stays within the noise rule.
    """

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True)
class BitExact(Equivalence):
    """Equal to a reference bit for bit: dtype, shape and every value.

    Attributes:
        reference: computes the expected outputs from the flat input tensors.  None: the program
            before the pass, run eagerly.
    """

    reference: Callable[..., Sequence[Any]] | None = None

    def __str__(self) -> str:
        return "bit-exact" if self.reference is None else f"bit-exact({_name(self.reference)})"


@dataclass(frozen=True)
class Precondition:
    """A property of inputs or weights that a pass relies on.

    Attributes:
        text: the property in words, as reports print it.
        holds: ``holds(program, inputs)``; None when the pass enforces it on the weights itself and
            nothing is left to check on the inputs.
        restrict: maps drawn inputs to inputs that satisfy the property; without it, draws that do
            not satisfy it are drawn again.
    """

    text: str
    holds: Callable[[Any, Sequence[Any]], bool] | None = None
    restrict: Callable[[Sequence[Any]], Sequence[Any]] | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ExactWhen(Equivalence):
    """``Exact`` for inputs that satisfy the preconditions, which verification enforces."""

    preconditions: tuple[Precondition, ...] = ()

    def __init__(self, *preconditions: Precondition | str) -> None:
        wrapped = tuple(Precondition(p) if isinstance(p, str) else p for p in preconditions)
        if not wrapped:
            raise ValueError("ExactWhen needs a precondition; without one the contract is Exact()")
        object.__setattr__(self, "preconditions", wrapped)

    def __str__(self) -> str:
        return f"exact when {' and '.join(map(str, self.preconditions))}"


Bound = float | Mapping[str, float] | Callable[[Any, Sequence[Any]], Sequence[Any]]
"""One number for all outputs, a number an output name, or ``bound(reference program, inputs)`` that
returns one number or broadcastable tensor an output."""


@dataclass(frozen=True)
class Bounded(Equivalence):
    """The error of each output, in exact arithmetic, is at most a bound.

    A pass type declares ``Bounded()``; a run of it returns the contract with the bounds filled in,
    which is what verification takes.

    Attributes:
        bounds: absolute error bounds; they add up when passes are composed.
        preconditions: inherited from an ``ExactWhen`` in the same pipeline.
    """

    bounds: tuple[Bound, ...] = ()
    preconditions: tuple[Precondition, ...] = ()

    def __init__(self, *bounds: Bound, preconditions: tuple[Precondition, ...] = ()) -> None:
        object.__setattr__(self, "bounds", bounds)
        object.__setattr__(self, "preconditions", preconditions)

    def __str__(self) -> str:
        if not self.bounds:
            return "bounded"
        parts = [f"{b:.3g}" if isinstance(b, int | float) else _name(b) for b in self.bounds]
        return f"bounded by {' + '.join(parts)}" + _when(self.preconditions)


@dataclass(frozen=True)
class Budget:
    """A metric and the most that it may reach.

    Attributes:
        metric: a name in :data:`graphopt.verification.metrics.METRICS`, or
            ``metric(reference outputs, candidate outputs) -> float``; lower is better.
        limit: the budget, inclusive.
    """

    metric: str | Callable[[Sequence[Any], Sequence[Any]], float]
    limit: float

    @property
    def name(self) -> str:
        return self.metric if isinstance(self.metric, str) else _name(self.metric)

    def __str__(self) -> str:
        return f"{self.name} <= {self.limit:g}"


@dataclass(frozen=True)
class Lossy(Equivalence):
    """Declared metrics on calibration data stay within their budgets.

    Example:
        >>> str(Lossy("relative_l2", 0.01))
        'lossy (relative_l2 <= 0.01)'
    """

    budgets: tuple[Budget, ...] = ()
    preconditions: tuple[Precondition, ...] = field(default=(), compare=True)

    def __init__(
        self,
        metric: str | Callable[[Sequence[Any], Sequence[Any]], float] | None = None,
        budget: float | None = None,
        *,
        budgets: tuple[Budget, ...] = (),
        preconditions: tuple[Precondition, ...] = (),
    ) -> None:
        if (metric is None) != (budget is None):
            raise ValueError("Lossy takes a metric together with its budget")
        own = () if metric is None or budget is None else (Budget(metric, budget),)
        if not own and not budgets:
            raise ValueError("Lossy needs a metric and a budget")
        object.__setattr__(self, "budgets", own + budgets)
        object.__setattr__(self, "preconditions", preconditions)

    def __str__(self) -> str:
        return f"lossy ({', '.join(map(str, self.budgets))})" + _when(self.preconditions)


_RANKS: dict[type[Equivalence], int] = {BitExact: 0, Exact: 1, ExactWhen: 2, Bounded: 3, Lossy: 4}


def compose(first: Equivalence, second: Equivalence) -> Equivalence:
    """The contract of two passes in a row.

    The weaker class wins, preconditions accumulate, bounds add (triangle inequality on the
    outputs), and budgets of one metric add while those of different metrics are listed.  ``BitExact``
    holds against the input of its own pass, so next to a floating-point pass it counts as ``Exact``.
    A ``Lossy`` pass swallows a bound: its metric is measured on the outputs of the whole pipeline.
    """
    if first.rank > second.rank and not isinstance(first, Lossy):
        return compose(second, first)
    preconditions = _merge(_preconditions(first), _preconditions(second))
    weaker = first if first.rank > second.rank else second
    match weaker:
        case Lossy():
            return Lossy(budgets=_add_budgets(first, second), preconditions=preconditions)
        case Bounded():
            return Bounded(*_bounds(first), *_bounds(second), preconditions=preconditions)
        case ExactWhen():
            return ExactWhen(*preconditions)
        case BitExact():
            return BitExact(None if first != second else first.reference)  # type: ignore[attr-defined]
    return weaker


def compose_all(contracts: Sequence[Equivalence]) -> Equivalence:
    """The contract of a whole pipeline; that of no pass at all is ``Exact``."""
    result: Equivalence | None = None
    for contract in contracts:
        result = contract if result is None else compose(result, contract)
    return result if result is not None else Exact()


def _bounds(contract: Equivalence) -> tuple[Bound, ...]:
    return contract.bounds if isinstance(contract, Bounded) else ()


def _preconditions(contract: Equivalence) -> tuple[Precondition, ...]:
    return getattr(contract, "preconditions", ())


def _merge(a: tuple[Precondition, ...], b: tuple[Precondition, ...]) -> tuple[Precondition, ...]:
    return a + tuple(p for p in b if p not in a)


def _add_budgets(first: Equivalence, second: Equivalence) -> tuple[Budget, ...]:
    total: dict[str, Budget] = {}
    for contract in (first, second):
        for budget in contract.budgets if isinstance(contract, Lossy) else ():
            before = total.get(budget.name)
            limit = budget.limit + (before.limit if before else 0.0)
            total[budget.name] = Budget(budget.metric, limit)
    return tuple(total.values())


def _when(preconditions: tuple[Precondition, ...]) -> str:
    return f" when {' and '.join(map(str, preconditions))}" if preconditions else ""


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {v:.3g}" for k, v in value.items()) + "}"
    return getattr(value, "__name__", None) or type(value).__name__
