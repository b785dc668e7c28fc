"""Where the cases and the oracles of a campaign come from."""

from __future__ import annotations

import functools
import hashlib
import importlib
import random
from collections.abc import Sequence
from typing import Any

from graphopt.errors import UsageError
from graphopt.fuzz.campaign.plan import Chunk, Stream
from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.oracles import Oracle
from graphopt.fuzz.oracles.compiled import EachOperator
from graphopt.passmanager.base import flatten
from graphopt.passmanager.registry import build_pipeline


class Sources:
    """The generator, the oracles of a campaign, in one process.

    Raises:
        UsageError: a setting names something that is not there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._generate = function_named(settings.generator)
        self._pass_oracles = function_named(settings.oracles)
        self._backend_oracles = function_named(settings.backend_oracles)

    def check(self) -> None:
        """Builds everything that is named.

        Raises:
            UsageError: a pass or a backend does not exist.
        """
        build_pipeline(list(self.settings.passes))
        if self.settings.backends:
            self._backend_oracles(self.settings.backends)

    def case(self, chunk: Chunk, place: int) -> FuzzCase:
        """The case at a place of a chunk."""
        if chunk.given:
            return chunk.given[place].case
        return self._generate(self.settings.seed, chunk.indices[place], self.settings.passes)

    def oracles(self, stream: Stream) -> Sequence[Oracle]:
        """Who looks at the cases of a stream.

        Those of the corpus are for all; but oracles that take graphs apart are left out, since each is small
        already, unless the campaign is to be thorough.
        """
        if stream == "passes":
            return self.for_passes
        if stream == "backends":
            return self.for_backends
        found = (*self.for_passes, *self.for_backends)
        return [o for o in found if self.settings.thorough or not isinstance(o, EachOperator)]

    def oracle_named(self, name: str) -> Oracle:
        """The oracle of a name.

        Raises:
            KeyError: the campaign has none of that name.
        """
        return {o.name: o for o in (*self.for_passes, *self.for_backends)}[name]

    @functools.cached_property
    def for_passes(self) -> Sequence[Oracle]:
        return tuple(self._pass_oracles())

    @functools.cached_property
    def for_backends(self) -> Sequence[Oracle]:
        return tuple(self._backend_oracles(self.settings.backends)) if self.settings.backends else ()


def function_named(place: str) -> Any:
    """``module:function``.

    Raises:
        UsageError: there is none.
    """
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"there is no function {place!r}: {error}") from error


def generated(root_seed: int, index: int, passes: Sequence[str]) -> FuzzCase:
    """The case of an index, with a pipeline that depends on the seed and the index too.

    Half of the cases go through all passes in order, a quarter through one of their parts alone, and a
    quarter through two to four of the parts in any order.

    Args:
        passes: textual forms; empty: ``cleanup``.
    """
    from graphopt.fuzz.generation import Options, generate

    return generate(root_seed, index, Options(passes=chosen_passes(root_seed, index, tuple(passes))))


def chosen_passes(root_seed: int, index: int, passes: tuple[str, ...]) -> tuple[str, ...]:
    """The pipeline of the case of an index."""
    passes = passes or ("cleanup",)
    digest = hashlib.sha256(f"{root_seed} {index} passes".encode()).digest()
    draw = random.Random(digest)
    kind = draw.random()
    if kind < 0.5:
        return passes
    parts = _parts(passes)
    if kind < 0.75:
        return (draw.choice(parts),)
    return tuple(draw.choice(parts) for _ in range(draw.randint(2, 4)))


@functools.cache
def _parts(passes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({str(p) for p in flatten(build_pipeline(list(passes)))}))


def pass_oracles() -> Sequence[Oracle]:
    """The oracles of passes."""
    from graphopt.fuzz.oracles import pass_oracles

    return pass_oracles()


def backend_oracles(names: Sequence[str]) -> Sequence[Oracle]:
    """The oracles of exporters and code generators."""
    from graphopt.fuzz.oracles import backend_oracles

    return backend_oracles(names)
