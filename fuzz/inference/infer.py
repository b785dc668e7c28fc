"""One partial operator, from its records to its rule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from graphopt.fuzz.inference import holdout
from graphopt.fuzz.inference.admission import dtype_table, instability
from graphopt.fuzz.inference.indices import index_bounds
from graphopt.fuzz.inference.learner import MAX_CONSTRAINTS, Learned, Learner
from graphopt.fuzz.inference.oracle import Oracle, Undecided
from graphopt.fuzz.inference.partial import PartialOperator, is_size
from graphopt.fuzz.inference.sampling import Samples, Values, Walk
from graphopt.fuzz.rules.expressions import Constant
from graphopt.fuzz.rules.rule import ConcreteRecord, HoldOut, OperatorRule

FLOORS = (-2, 0, 1)
"""Least values of attributes, tried in turn: rules of many operators differ for negative attributes."""
CALLS_PER_SAMPLE = 5
"""Of the walk that gathers samples, before it gives up."""
MIN_HOLDOUT = 20
"""Fresh valid calls without which the figures of a rule say nothing."""
KEPT_RECORDS = 6


class Uninferable(Exception):
    """There can be no rule; the message says why."""


def infer(partial: PartialOperator, seed: int, floors: Sequence[int] = FLOORS) -> OperatorRule:
    """The rule of a partial operator; the same for the same seed.

    Args:
        partial: what to infer.
        seed: of all sampling.
        floors: least values of attributes to try, in turn.

    Raises:
        Uninferable: the operator is no function of shapes, or none of its records runs again.
    """
    oracle = Oracle(partial)
    if (reason := instability(partial, oracle)) is not None:
        raise Uninferable(reason)
    best: tuple[Learned, HoldOut, Samples, int] | None = None
    reason = "no record is in range"
    for floor in floors if any(not is_size(name) for name in partial.attributes) else (1,):
        try:
            attempt = _attempt(partial, oracle, random.Random(f"{seed} {partial.key} {floor}"), floor)
        except Undecided:
            attempt = None
        if attempt is None:
            continue
        learned, figures, samples = attempt
        if best is None or _quality(learned, figures) > _quality(*best[:2]):
            best = (learned, figures, samples, floor)
        if not (reason := _objection(partial, learned, figures)):
            break
    if best is None:
        raise Uninferable(reason)
    learned, figures, samples, floor = best
    reason = _objection(partial, learned, figures)
    records = _kept(partial, oracle)
    if not records:
        raise Uninferable("no recorded call runs again with other values")
    complete = [expression for expression in learned.outputs if expression is not None]
    return OperatorRule(
        overload=partial.overload,
        key=partial.key,
        template=partial.template,
        inputs=partial.inputs,
        attributes=partial.attributes,
        floor=floor,
        constraints=learned.constraints,
        results=partial.output_ranks,
        outputs=_by_result(partial, complete) if len(complete) == len(learned.outputs) else (),
        dtypes=tuple(dtype_table(partial, oracle)),
        index_bounds=index_bounds(oracle, samples),
        records=records,
        holdout=figures,
        usable=not reason,
        reason=reason,
        sources=_few(partial.sources),
    )


def _attempt(
    partial: PartialOperator, oracle: Oracle, rng: random.Random, floor: int
) -> tuple[Learned, HoldOut, Samples] | None:
    count = len(partial.symbols) - len(partial.attributes)
    floors = [1] * count + [floor] * len(partial.attributes)
    seeds = [*partial.records, *partial.invalid]
    wanted = min(144, 36 + 9 * len(partial.symbols))
    walk = Walk(oracle, seeds, rng, floors)
    samples = walk.run(wanted, wanted, 2 * CALLS_PER_SAMPLE * wanted)
    if not samples.valid:
        return None
    if not partial.symbols:
        (sizes,) = samples.valid.values()
        return Learned((), tuple(map(Constant, sizes))), HoldOut(0, 0, 1.0, 1.0, 1.0), samples
    learner = Learner(oracle, samples, rng, floors)
    learned = learner.learn()
    if None in learned.outputs:  # perhaps too few calls show what a size depends on
        walk.run(3 * wanted, len(samples.invalid), 4 * CALLS_PER_SAMPLE * wanted)
        learned = learner.learn()
    if None in learned.outputs or len(learned.constraints) > MAX_CONSTRAINTS:
        return learned, HoldOut(0, 0, 0.0, 0.0, 0.0), samples
    fresh = Walk(oracle, seeds, rng, floors, holdout.SIZES)
    figures = holdout.judge(
        learned,
        oracle,
        samples,
        fresh,
        lambda system: learner.propose(system, holdout.SIZES),
        learner.system(learned.constraints),
    )
    return learned, figures, samples


def _objection(partial: PartialOperator, learned: Learned, figures: HoldOut) -> str:
    """Why a rule must not be used; empty if nothing speaks against it."""
    if None in learned.outputs:
        return "an output size has no expression"
    if len(learned.constraints) > MAX_CONSTRAINTS:
        return "no small set of constraints explains what is valid"
    if partial.symbols and figures.valid < MIN_HOLDOUT:
        return f"only {figures.valid} valid calls to judge it by"
    if not figures.passes(holdout.THRESHOLD):
        worst = min(("precision", "recall", "exact"), key=lambda name: getattr(figures, name))
        return f"hold-out {worst} {getattr(figures, worst):.3f}"
    return ""


def _quality(learned: Learned, figures: HoldOut) -> tuple[bool, float]:
    return None not in learned.outputs, min(figures.precision, figures.recall, figures.exact)


T = TypeVar("T")


def _by_result(partial: PartialOperator, sizes: Sequence[T]) -> tuple[tuple[T, ...], ...]:
    """What belongs to each output size, all in a row, by result."""
    found, at = [], 0
    for rank in partial.output_ranks:
        if rank is not None:
            found.append(tuple(sizes[at : at + rank]))
            at += rank
    return tuple(found)


def _kept(partial: PartialOperator, oracle: Oracle) -> tuple[ConcreteRecord, ...]:
    """Some of the recorded calls, evenly spread by size."""
    ordered = sorted(partial.records, key=lambda values: (sum(map(abs, values)), values))
    found = [(values, sizes) for values in ordered if (sizes := _outcome(oracle, values)) is not None]
    step = max(1, -(-len(found) // KEPT_RECORDS))
    return tuple(ConcreteRecord(values, _by_result(partial, sizes)) for values, sizes in found[::step])


def _outcome(oracle: Oracle, values: Values) -> tuple[int, ...] | None:
    try:
        return oracle(values)
    except Undecided:
        return None


def _few(sources: tuple[str, ...]) -> tuple[str, ...]:
    """One source of each kind, programs first."""
    kinds: dict[str, str] = {}
    for source in sources:
        kinds.setdefault(source.split(":")[0], source)
    return tuple(kinds[kind] for kind in ("zoo", "template", "op_db", "lifted") if kind in kinds)
