"""The list of mutations: each is a function registered with :func:`mutation`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import onnx

T = TypeVar("T")


class NotApplicable(Exception):
    """The model has nothing that this mutation changes."""


Mutate = Callable[[Random, onnx.ModelProto, Path], onnx.ModelProto | bytes]
"""``(generator, model, folder)`` to the mutated file.

The model may be changed in place.  ``folder`` is the model's, for files that lie beside it; its parent
has a folder ``outside`` with files that importing must never open.
"""


@dataclass(frozen=True)
class Mutation:
    """One way to spoil a file.

    Attributes:
        name: the function's.
        weight: how often it is drawn.
        samples: names of the samples that it takes; empty: every small one.
        from_scratch: it makes its own model, so the sample is not looked at.
    """

    name: str
    function: Mutate
    weight: int = 1
    samples: tuple[str, ...] = ()
    from_scratch: bool = False


MUTATIONS: dict[str, Mutation] = {}


def mutation(
    *, weight: int = 1, samples: tuple[str, ...] = (), from_scratch: bool = False
) -> Callable[[Mutate], Mutate]:
    """Decorator: adds a mutation to the catalogue."""

    def register(function: Mutate) -> Mutate:
        name = function.__name__
        assert name not in MUTATIONS
        MUTATIONS[name] = Mutation(name, function, weight, samples, from_scratch)
        return function

    return register


def choose(random: Random, items: Iterable[T]) -> T:
    """One of the items (any sequence or iterable).

    Raises:
        NotApplicable: there is none.
    """
    found = list(items)
    if not found:
        raise NotApplicable
    return random.choice(found)
