"""Where the cases and the oracles of a campaign come from."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError
from graphopt.fuzz.campaign.corpus import read_case
from graphopt.fuzz.campaign.plan import Chunk, Stream
from graphopt.fuzz.campaign.settings import Settings
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.oracles import Oracle
from graphopt.passmanager.registry import build_pipeline


class Sources:
    """The generator, the oracles and the files of a campaign, in one process.

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

    def label(self, chunk: Chunk, place: int) -> str:
        """What the case at a place of a chunk is called: ``seed/index``, or the name of its file."""
        if chunk.files:
            return Path(chunk.files[place]).stem
        return f"{self.settings.seed}/{chunk.indices[place]}"

    def case(self, chunk: Chunk, place: int) -> FuzzCase:
        """The case at a place of a chunk."""
        if chunk.files:
            return read_case(chunk.files[place])
        return self._generate(self.settings.seed, chunk.indices[place], self.settings.passes)

    def oracles(self, stream: Stream) -> Sequence[Oracle]:
        """Who looks at the cases of a stream: cases from files are for all."""
        found: list[Oracle] = []
        if stream != "backends":
            found += self.for_passes
        if stream != "passes":
            found += self.for_backends
        return found

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
