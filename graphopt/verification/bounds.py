"""The error that a ``Bounded`` contract allows, output by output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from graphopt.contract import Bounded, Equivalence
from graphopt.errors import VerificationError
from graphopt.ir.program import Program


def bounds_of(contract: Equivalence, program: Program, inputs: Sequence[Tensor]) -> list[Tensor | float]:
    """The sum of the contract's bounds for each output; zeros for the other contracts.

    Raises:
        VerificationError: the contract is ``Bounded`` without a bound, or a bound does not fit the outputs.
    """
    names = [s.name for s in program.signature.outputs]
    total: list[Tensor | float] = [0.0] * len(names)
    if not isinstance(contract, Bounded):
        return total
    if not contract.bounds:
        raise VerificationError(
            "the contract is Bounded but carries no bound",
            hint="verify with the contract that the run of the pass returned",
        )
    for bound in contract.bounds:
        if isinstance(bound, int | float):
            values: Sequence[Any] = [bound] * len(names)
        elif isinstance(bound, Mapping):
            unknown = [n for n in names if n not in bound]
            if unknown:
                raise VerificationError(f"the bound says nothing of output {unknown[0]!r}")
            values = [bound[n] for n in names]
        else:
            values = bound(program, inputs)
        if len(values) != len(names):
            raise VerificationError(f"the bound gives {len(values)} numbers for {len(names)} outputs")
        wide = [v.double() if isinstance(v, Tensor) else float(v) for v in values]
        total = [t + v for t, v in zip(total, wide, strict=True)]
    return total
