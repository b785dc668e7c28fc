"""From calls to a rule: learn, let Z3 and random search propose counterexamples, learn again.

Every predicate is attacked from both sides: calls that satisfy all predicates have to be valid, and
calls that violate exactly one have to be invalid.  A call that is not refutes something, and becomes a
sample (counterexample-guided inductive synthesis; Solar-Lezama, "Program Synthesis by Sketching", 2008).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.fuzz.inference import constraints, shapes
from graphopt.fuzz.inference.oracle import Oracle, Undecided
from graphopt.fuzz.inference.partial import PartialOperator
from graphopt.fuzz.inference.sampling import ATTRIBUTES, SIZES, SMALL_SIZE, Samples, Values
from graphopt.fuzz.rules import smt
from graphopt.fuzz.rules.arguments import SymbolSlot, slots
from graphopt.fuzz.rules.expressions import Expression, Predicate, evaluator
from graphopt.fuzz.rules.solving import ConstraintSystem, negation

ROUNDS = 8
PROPOSALS = 40
"""Calls a round that should be valid."""
ATTACKS = 5
"""Calls a round and predicate that should be invalid."""
MAX_FAILED = 2
"""Searches without result before a system is taken to have no solution that is worth the time."""
MAX_CONSTRAINTS = 28
"""Operators need fewer; more are a sign that what decides is not among the candidates."""
LARGEST_SIZE = 48
LARGEST_ATTRIBUTE = 16


@dataclass(frozen=True)
class Learned:
    """A hypothesis about one partial operator.

    Attributes:
        constraints: what valid calls satisfy.
        outputs: an expression for each output size, all outputs in a row; None where there is none.
    """

    constraints: tuple[Predicate, ...]
    outputs: tuple[Expression | None, ...]


def layout_of(partial: PartialOperator) -> constraints.Layout:
    """Which symbols of a partial operator belong together."""
    lists = []
    for template in partial.template:
        if isinstance(template, tuple):
            numbers = tuple(slot.name for slot in slots(template) if isinstance(slot, SymbolSlot))
            if numbers:
                lists.append(numbers)
    return constraints.Layout(tuple(t.sizes for t in partial.inputs), tuple(lists))


class Learner:
    """Learns one partial operator from samples, which grow on the way.

    Args:
        oracle: of the partial operator.
        samples: calls; counterexamples are added.
        rng: the only source of randomness.
        floors: the least value of each symbol.
    """

    def __init__(self, oracle: Oracle, samples: Samples, rng: random.Random, floors: Sequence[int]) -> None:
        self.oracle, self.samples, self.rng = oracle, samples, rng
        self._strict = oracle.strict
        self._valid = list(samples.valid)
        self._fitted = False
        self._options: list[list[Expression]] = [[] for _ in next(iter(samples.valid.values()), ())]
        self._candidates: list[constraints.Candidate] = []
        self.names = oracle.partial.symbols
        self.layout = layout_of(oracle.partial)
        self._crowded = {name for tensor in self.layout.tensors if len(tensor) >= 4 for name in tensor}
        self.floors = dict(zip(self.names, floors, strict=True))
        self.ranges = {
            name: (floor, LARGEST_SIZE if name in self.layout.sizes else LARGEST_ATTRIBUTE)
            for name, floor in self.floors.items()
        }

    def learn(self) -> Learned:
        """The hypothesis that no counterexample was found against, or that of the last round.

        Where an output size has no expression, more samples will not give it one: that is the end, as
        are more than :data:`MAX_CONSTRAINTS`.

        Raises:
            Undecided: the oracle turned out to be too strict to say anything.
        """
        learned = self._fit()
        for _ in range(ROUNDS):
            if None in learned.outputs or len(learned.constraints) > MAX_CONSTRAINTS:
                return learned
            refuted = self._attack(learned)
            refuted += self._disambiguate(learned)
            if not refuted:
                break
            learned = self._fit()
        return self._minimised(learned)

    def system(self, predicates: Sequence[Predicate]) -> ConstraintSystem:
        """Predicates over this operator's symbols, in the ranges that calls are proposed from."""
        return ConstraintSystem(self.ranges, predicates)

    def propose(self, system: ConstraintSystem, sizes: Sequence[int] = SIZES) -> Values | None:
        """A call that satisfies a system, starting from a valid one of which a part is drawn anew."""
        start = dict(zip(self.names, self.rng.choice(self._valid), strict=True))
        keep = self.rng.choice((0.2, 0.5, 0.8))
        for name in self.names:
            if self.rng.random() > keep:
                start[name] = self.rng.choice(self._drawn(name, sizes))
        found = system.solve(self.rng, start)
        return None if found is None else tuple(found[name] for name in self.names)

    def _drawn(self, name: str, sizes: Sequence[int]) -> Sequence[int]:
        """What a fresh value of a symbol is drawn from."""
        if name not in self.layout.sizes:
            return ATTRIBUTES
        return [n for n in sizes if n <= SMALL_SIZE] if name in self._crowded else sizes

    # One round of learning.

    def _fit(self) -> Learned:
        grown = len(self.samples.valid) != len(self._valid)
        if self.oracle.strict and not self._strict:
            self._strict = grown = True
            self.samples.judge_again(self.oracle)
            if not self.samples.valid:
                raise Undecided
        if grown or not self._fitted:
            self._fitted = True
            self._valid = list(self.samples.valid)
            self._fit_valid()
        outputs = tuple(options[0] if options else None for options in self._options)
        invalid = np.array(list(self.samples.invalid), dtype=np.int64).reshape(-1, len(self.names))
        failed = {name: invalid[:, i] for i, name in enumerate(self.names)}
        return Learned(tuple(constraints.cover(self._candidates, failed, len(invalid))), outputs)

    def _fit_valid(self) -> None:
        """What only valid calls decide: expressions of output sizes, and which predicates always hold."""
        rows = np.array(self._valid, dtype=np.int64)
        targets = np.array([self.samples.valid[v] for v in self._valid], dtype=np.int64)
        columns = {name: rows[:, i] for i, name in enumerate(self.names)}
        self._options = [
            [e for e in options if np.array_equal(np.broadcast_to(evaluator(e)(columns), len(rows)), target)]
            for options, target in zip(self._options, targets.T, strict=True)
        ]
        if not self._options or not all(self._options):
            self._options = self._shapes(rows, targets, columns)
        shapes = dict.fromkeys(options[0] for options in self._options if options)
        self._candidates = constraints.candidates(self.names, columns, self.layout, shapes, self.floors)

    def _shapes(
        self, rows: np.ndarray, targets: np.ndarray, columns: Mapping[str, np.ndarray]
    ) -> list[list[Expression]]:
        """The expressions that fit each output size."""
        leading: dict[bytes, int] = {}
        fixed = set()
        for i, name in enumerate(self.names):
            if columns[name].min() == columns[name].max():
                fixed.add(int(columns[name][0]))
            else:
                leading.setdefault(columns[name].tobytes(), i)
        chosen = sorted(leading.values())
        names = [self.names[i] for i in chosen]
        found, known = [], {}
        for output, likely in enumerate(shapes.dependents(names, rows[:, chosen], targets)):
            key = (*likely, targets[:, output].tobytes())
            if key not in known:
                few = sorted(n for n in fixed if 2 < n <= 8)
                known[key] = shapes.candidates(likely, columns, targets[:, output], few)
            found.append(known[key])
        return found

    def _ask(self, values: Values) -> bool:
        return self.samples.add(values, self.oracle)

    def _attack(self, learned: Learned) -> int:
        """Calls that the hypothesis is wrong about, now among the samples."""
        refuted = 0
        system = self.system(learned.constraints)
        failed = 0
        for _ in range(PROPOSALS):
            values = self.propose(system)
            if values is None:
                failed += 1
                values = self._proven(system)
            if failed == MAX_FAILED:
                break
            if values is not None and not self._known(values):
                valid = self._ask(values)
                refuted += not valid or not self._explained(learned, values)
        for i, predicate in enumerate(learned.constraints):
            others = [p for j, p in enumerate(learned.constraints) if j != i]
            attack = self.system([*others, *negation(predicate)])
            failed = 0
            for _ in range(ATTACKS):
                values = self.propose(attack)
                failed += values is None
                if failed == MAX_FAILED:
                    break
                if values is not None and not self._known(values):
                    refuted += self._ask(values)
        return refuted

    def _proven(self, system: ConstraintSystem) -> Values | None:
        """A call that Z3 says satisfies a system, near a valid one."""
        near = dict(zip(self.names, self.rng.choice(self._valid), strict=True))
        found = system.prove(self.rng, {}, near)
        return None if found is None else tuple(found[name] for name in self.names)

    def _known(self, values: Values) -> bool:
        return values in self.samples.valid or values in self.samples.invalid

    def _explained(self, learned: Learned, values: Values) -> bool:
        assignment = dict(zip(self.names, values, strict=True))
        expected = [None if e is None else evaluator(e)(assignment) for e in learned.outputs]
        return list(self.samples.valid[values]) == expected

    def _disambiguate(self, learned: Learned) -> int:
        """Where several expressions fit an output size: calls on which they differ."""
        refuted = 0
        asked: set[tuple[Expression, Expression]] = set()
        for options in self._options:
            for other in options[1:]:
                if (options[0], other) in asked:
                    continue
                asked.add((options[0], other))
                found = smt.distinguishing(options[0], other, learned.constraints, self.ranges)
                if found is None:
                    continue
                values = tuple(found[name] for name in self.names)
                if not self._known(values):
                    valid = self._ask(values)
                    refuted += not valid or not self._explained(learned, values)
        return refuted

    def _minimised(self, learned: Learned) -> Learned:
        """Without predicates that provably follow from the others."""
        kept = smt.essential(learned.constraints, self.ranges)
        return Learned(tuple(kept), learned.outputs)
