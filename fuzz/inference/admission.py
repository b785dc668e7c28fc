"""Which operators rules can be about, and the dtypes that they work in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphopt.fuzz.inference.oracle import Oracle
from graphopt.fuzz.inference.partial import CLASSES, PartialOperator
from graphopt.fuzz.traces.record import overload_of

_REFUSED_TAGS = {
    torch.Tag.dynamic_output_shape: "data decides the shape of its result",
    torch.Tag.data_dependent_output: "its result is a number that data decides",
}
_REFUSED = {
    "aten.lift_fresh.default": "only wraps constants while tracing",
    "aten.lift_fresh_copy.default": "only wraps constants while tracing",
    "aten._local_scalar_dense.default": "its result is a number that data decides",
}
RANDOM_RUNS = 10
"""Of operators that draw numbers for some arguments; dropout does not where it is switched off."""
_UNINITIALISED = ("empty", "new_empty", "_empty", "_efficientzerotensor")


def refusal(overload: str) -> str | None:
    """Why there can be no rule for an overload, or None."""
    operator = overload_of(overload)
    if operator._schema.is_mutable:
        return "changes an argument"
    for tag, words in _REFUSED_TAGS.items():
        if tag in operator.tags:
            return words
    name = overload.split(".")[1]
    if name.startswith(_UNINITIALISED):
        return "its result is not initialised"
    if "backward" in name:
        return "a gradient: programs have the forward operator"
    return _REFUSED.get(overload)


def instability(partial: PartialOperator, oracle: Oracle) -> str | None:
    """Why a partial operator is no function of shapes, or None.

    A recorded call has to run again, give the same twice, and the same shapes for other values.
    """
    values = _smallest(partial)
    first = oracle.run(values, "cpu")
    if first is None:
        return "no recorded call runs again with other values"
    if any(t.is_complex() for t in _tensors(first)):
        return "its result is complex"
    runs = RANDOM_RUNS if torch.Tag.nondeterministic_seeded in overload_of(partial.overload).tags else 1
    if not all(_same(first, oracle.run(values, "cpu")) for _ in range(runs)):
        return "its result is random"
    other = oracle.run(values, "cpu", fills=dict.fromkeys(range(len(partial.inputs)), 1 - oracle.fill))
    if other is not None and _shapes(other) != _shapes(first):
        return "values decide the shape of its result"
    if oracle.run(values, "meta") is None:
        return "the meta device does not know it"
    return None


def dtype_table(partial: PartialOperator, oracle: Oracle) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The dtypes that the CPU's kernels take, with those of the results.

    All inputs of a class have the same dtype; one class at a time takes others than its first.
    """
    values = _smallest(partial)
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    kinds = list(dict.fromkeys(tensor.kind for tensor in partial.inputs)) or [""]
    for kind in kinds:
        for dtype in CLASSES.get(kind, (torch.float32,)):
            dtypes = [dtype if t.kind == kind else CLASSES[t.kind][0] for t in partial.inputs]
            result = oracle.run(values, "cpu", dtypes)
            if result is not None:
                outputs = tuple(_name(t.dtype) for t in _tensors(result))
                found[tuple(map(_name, dtypes))] = outputs
    return list(found.items())


def _smallest(partial: PartialOperator) -> dict[str, int]:
    record = min(partial.records, key=lambda values: (sum(map(abs, values)), values))
    return dict(zip(partial.symbols, record, strict=True))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _tensors(result: Any) -> list[torch.Tensor]:
    flat: Sequence[Any] = result if isinstance(result, list | tuple) else (result,)
    return [r for r in flat if isinstance(r, torch.Tensor)]


def _shapes(result: Any) -> list[torch.Size]:
    return [t.shape for t in _tensors(result)]


def _same(first: Any, second: Any) -> bool:
    if second is None:
        return False
    pairs = list(zip(_tensors(first), _tensors(second), strict=True))
    return all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
