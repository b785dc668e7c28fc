"""Which partial operators are worth a rule.

Torch's tests call most operators with one or two ranks only, and pointwise ones mainly with scalars.
Programs need more: calls are lifted to tensors of three and four axes where the operator takes them.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import torch

from graphopt.fuzz.inference.admission import refusal
from graphopt.fuzz.inference.oracle import Oracle
from graphopt.fuzz.inference.partial import PartialOperator, TensorInput, partial_operators
from graphopt.fuzz.traces.record import Record

MAX_FLOAT, MAX_SIMPLE, MAX_PROGRAMS = 3, 2, 2
"""Partial operators of one overload: of floating-point inputs; the same where there are no integer
attributes and one tensor; and further ones that programs have."""
LIFTED_SHAPE = (2, 3, 4, 5)
LIFTED_RANKS = (3, 4)


def select(
    records: Iterable[Record], only: Collection[str] = ()
) -> tuple[list[PartialOperator], dict[str, str]]:
    """The partial operators to infer, and for overloads that can have none the reason.

    Args:
        records: of traces.
        only: overloads to restrict the selection to; default: all.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if not only or record.overload in only:
            groups.setdefault(record.overload, []).append(record)
    chosen: list[PartialOperator] = []
    missing = {}
    for overload in sorted(groups):
        reason = refusal(overload)
        found = [] if reason else partial_operators(groups[overload])
        if found:
            chosen += _best(found)
        else:
            missing[overload] = reason or "only seen with empty tensors, other dtypes or no tensor as result"
    return chosen, missing


def _best(found: Sequence[PartialOperator]) -> list[PartialOperator]:
    """Those of one overload that differ most: the first of each kind, few scalars, lifted ones."""
    shaped = [p for p in found if any(t.sizes for t in p.inputs)] or list(found)[:2]
    floating = [p for p in shaped if _kinds(p) <= {"float"}]
    integer = [p for p in shaped if "int" in _kinds(p)]
    boolean = [p for p in shaped if p not in floating and p not in integer]
    programs = [p for p in shaped if any(not s.startswith("op_db:") for s in p.sources)]
    simple = all(len(p.inputs) == 1 and not p.attributes for p in shaped)
    chosen = floating[: MAX_SIMPLE if simple else MAX_FLOAT] + (integer or boolean)[:1]
    if not chosen:
        chosen = shaped[:MAX_FLOAT]
    chosen += [p for p in programs if p not in chosen][:MAX_PROGRAMS]
    ranks = {len(t.sizes) for p in chosen for t in p.inputs}
    lifted = (_lifted(chosen[0], rank) for rank in LIFTED_RANKS if rank not in ranks)
    return chosen + [p for p in lifted if p is not None]


def _kinds(partial: PartialOperator) -> set[str]:
    return {tensor.kind for tensor in partial.inputs}


def _lifted(partial: PartialOperator, rank: int) -> PartialOperator | None:
    """The same call with every tensor of the same, larger shape, if the operator takes that."""
    if partial.attributes or not partial.inputs:
        return None
    inputs = tuple(
        TensorInput(t.name, t.kind, tuple(f"{t.name}_{axis}" for axis in range(rank))) for t in partial.inputs
    )
    values = LIFTED_SHAPE[:rank] * len(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        candidate = replace(partial, inputs=inputs, records=(values,), invalid=())
        result = Oracle(candidate).run(dict(zip(candidate.symbols, values, strict=True)), "cpu")
    flat = result if isinstance(result, list | tuple) else (result,)
    ranks = tuple(r.dim() if isinstance(r, torch.Tensor) else None for r in flat)
    if result is None or all(r is None for r in ranks):
        return None
    return replace(candidate, output_ranks=ranks, sources=("lifted",))
