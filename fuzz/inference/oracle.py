"""Whether an operator accepts given sizes and attributes, and the shapes that it returns.

The meta device answers without data.  For some operators it accepts what kernels refuse; the oracle
finds out by running small ones of its first calls on the CPU, and asks both from then on.  Where the two
agree and no attribute can make results much larger than inputs, small calls go to the CPU alone: a kernel
on few elements is ten times as fast as the Python code behind many operators on the meta device.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from graphopt.fuzz.inference.partial import CLASSES, PartialOperator
from graphopt.fuzz.rules.arguments import filled
from graphopt.fuzz.traces.record import overload_of

Outcome = tuple[int, ...] | None
"""All output sizes in a row, or None where the call is invalid."""


class Undecided(Exception):
    """The call is too large for the CPU, and for this operator the meta device is not believed."""


PROBES = 60
"""Accepted calls that are run on the CPU before the meta device is believed."""
MAX_ELEMENTS = 1 << 15
"""Of all tensors of a call on the CPU."""
MAX_BY_KERNEL = 1 << 12
"""Of the inputs of a call that only the CPU is asked about."""


NO_FILLS: Mapping[int, int] = MappingProxyType({})


class Oracle:
    """The behaviour of one partial operator.

    A call whose results are empty, or differ in number or rank from what the partial operator was
    recorded with, counts as invalid.

    Attributes:
        calls: how often torch was asked.
        strict: the CPU is asked too.
        fill: the value of integer and boolean inputs: 0, which is a valid index, or 1 where the first
            record needs that, as divisions do.
        loose: a call that the meta device accepted and the CPU refused, if there was one.
    """

    def __init__(self, partial: PartialOperator) -> None:
        self.partial = partial
        self.calls = 0
        self.strict = False
        self.loose: dict[str, int] | None = None
        self.fill = 0
        self._probes = PROBES
        self._by_kernel = not partial.attributes and bool(partial.inputs)
        self._overload = overload_of(partial.overload)
        schema = self._overload._schema.arguments
        self._positional = [i for i, a in enumerate(schema) if not a.kwarg_only]
        self._keywords = {a.name: i for i, a in enumerate(schema) if a.kwarg_only}
        self._symbols = partial.symbols
        self._known: dict[tuple[int, ...], Outcome] = {}
        if partial.records and any(tensor.kind != "float" for tensor in partial.inputs):
            first = dict(zip(self._symbols, partial.records[0], strict=True))
            if self.run(first, "cpu") is None:
                self.fill = 1

    def __call__(self, values: Sequence[int]) -> Outcome:
        """The output sizes for values of the partial operator's symbols.

        Raises:
            Undecided: nobody can say.
        """
        key = tuple(values)
        if key not in self._known:
            self._known[key] = self._evaluate(dict(zip(self._symbols, key, strict=True)))
        return self._known[key]

    def _evaluate(self, values: Mapping[str, int]) -> Outcome:
        if any(values[s] < 1 for tensor in self.partial.inputs for s in tensor.sizes):
            return None
        if self._by_kernel and not self._probes and self._elements(values) <= MAX_BY_KERNEL:
            return self._sizes(self.run(values, "cpu"))
        found = self._sizes(self.run(values, "meta"))
        if found is None or not (self.strict or self._probes):
            return found
        if self._elements(values, found) > MAX_ELEMENTS:
            if self.strict:
                raise Undecided
            return found
        self._probes -= not self.strict
        confirmed = self._sizes(self.run(values, "cpu"))
        if confirmed != found and not self.strict:
            self.strict, self.loose = True, dict(values)
            self._known.clear()
        return confirmed if confirmed == found else None

    def _elements(self, values: Mapping[str, int], sizes: Sequence[int] | None = None) -> int:
        """Of the inputs, and of results of the given sizes."""
        total, at = 0, 0
        for tensor in self.partial.inputs:
            total += math.prod(values[s] for s in tensor.sizes)
        for rank in self.partial.output_ranks if sizes is not None else ():
            total += math.prod(sizes[at : at + (rank or 0)]) if sizes is not None else 0
            at += rank or 0
        return total

    def _sizes(self, result: Any) -> Outcome:
        if result is None:
            return None
        flat = result if isinstance(result, list | tuple) else (result,)
        ranks = tuple(r.dim() if isinstance(r, torch.Tensor) else None for r in flat)
        if ranks != self.partial.output_ranks:
            return None
        sizes = tuple(int(n) for r in flat if isinstance(r, torch.Tensor) for n in r.shape)
        return sizes if all(sizes) else None

    def run(
        self,
        values: Mapping[str, int],
        device: str,
        dtypes: Sequence[torch.dtype] | None = None,
        fills: Mapping[int, int] = NO_FILLS,
    ) -> Any:
        """The operator's result, or None where it raises.

        Args:
            values: of the symbols.
            device: ``meta`` or ``cpu``.
            dtypes: of the inputs; default: the first of each one's class.
            fills: values of integer and boolean inputs, by position; the others are full of :attr:`fill`.
        """
        self.calls += 1
        kinds = dtypes or [CLASSES[tensor.kind][0] for tensor in self.partial.inputs]
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                tensors = [
                    self._tensor([values[s] for s in tensor.sizes], dtype, device, fills.get(i, self.fill))
                    for i, (tensor, dtype) in enumerate(zip(self.partial.inputs, kinds, strict=True))
                ]
                arguments = [filled(template, values, tensors) for template in self.partial.template]
                if not tensors:
                    arguments = self._placed(arguments, device)
                keywords = {name: arguments[i] for name, i in self._keywords.items()}
                return self._overload(*(arguments[i] for i in self._positional), **keywords)
        except Exception:  # noqa: BLE001 - whatever torch raises means that it refuses the call
            return None

    def _placed(self, arguments: list[Any], device: str) -> list[Any]:
        """Arguments of an operator without inputs, told where to make its result."""
        if "device" in self._keywords:
            arguments[self._keywords["device"]] = torch.device(device)
        return arguments

    def _tensor(self, shape: Sequence[int], dtype: torch.dtype, device: str, fill: int) -> torch.Tensor:
        if device == "meta":
            return torch.empty(shape, dtype=dtype, device="meta")
        return torch.full(shape, 0.5 if dtype.is_floating_point else fill, dtype=dtype)
