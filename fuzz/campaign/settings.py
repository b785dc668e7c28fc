"""What a campaign does: everything that decides its findings, and nothing that does not.

Two campaigns of equal settings find the same, on one process or on a cluster; how many workers there are,
and where, is not a setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphopt.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Settings:
    """A campaign.

    Attributes:
        profile: the name of the profile that the other values come from.
        passes: textual forms of the passes to test; empty: all.
        backends: code generators and runtimes that every ``backend_every``-th case runs on as well.
        seed: of the whole campaign; case ``i`` depends on it and on ``i``, on no other case.
        cases: how many to generate; None: as many as ``seconds`` allow.
        seconds: after them no chunk of cases begins any more; None: no limit.
        only: indices of the only cases to run, in any order; empty: all.
        backend_every: distance of the cases that run on the backends.
        timeout: seconds after which a case is a finding.
        memory: GiB that a worker may allocate beyond what its libraries take.
        recycle: a worker is replaced after so many cases.
        crash_calls: processes that may be spent on making a crash small; other findings take none.
        thorough: whether oracles that take graphs apart look at the corpus, too.
        require_firings: a pass or rule that never fired is a finding.
        replay: whether the corpus runs first.
        known_scripts: whether the scripts of known issues run, to see whether the issues are still there.
        generator: ``module:function`` of ``(root_seed, index, passes) -> FuzzCase``.
        oracles: ``module:function`` of ``() -> oracles`` for passes.
        backend_oracles: ``module:function`` of ``(names) -> oracles`` for backends.
    """

    profile: str = "pr"
    passes: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("cpu", "ort")
    seed: int = 0
    cases: int | None = 1600
    seconds: float | None = None
    only: tuple[int, ...] = ()
    backend_every: int = 80
    timeout: float = 120.0
    memory: float = 6.0
    recycle: int = 1000
    crash_calls: int = 12
    thorough: bool = False
    require_firings: bool = False
    replay: bool = True
    known_scripts: bool = False
    generator: str = "graphopt.fuzz.campaign.sources:generated"
    oracles: str = "graphopt.fuzz.campaign.sources:pass_oracles"
    backend_oracles: str = "graphopt.fuzz.campaign.sources:backend_oracles"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` reads it back."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Settings:
        """What :meth:`to_dict` wrote.

        Raises:
            ValueError: it is none.
        """
        try:
            values: dict[str, Any] = dict(data)
            values |= {key: tuple(values[key]) for key in ("passes", "backends", "only") if key in values}
            return Settings(**values)
        except TypeError as error:
            raise ValueError(f"malformed settings: {error}") from error


PROFILES: dict[str, dict[str, Any]] = {
    # For every change: counts cases, so that it finds the same on every machine.
    "pr": {},
    # For the night: counts time, and insists that every pass and rule was exercised.
    "nightly": {
        "cases": None,
        "seconds": 7200.0,
        "backend_every": 12,
        "timeout": 300.0,
        "require_firings": True,
        "known_scripts": True,
    },
}
"""Name of each profile, and where it departs from the defaults of :class:`Settings`."""


def profile_settings(name: str, **changes: Any) -> Settings:
    """The settings of a profile, with some of them changed.

    A number of cases or of seconds that is given replaces the profile's budget, whichever that was.

    Raises:
        UsageError: there is no such profile, or a value is out of range.
    """
    if name not in PROFILES:
        raise UsageError(f"there is no profile {name!r}", hint=did_you_mean(name, PROFILES) or None)
    given = {key: value for key, value in changes.items() if value is not None}
    values = PROFILES[name] | {"profile": name}
    if given.keys() & {"cases", "seconds", "only"}:
        values |= {"cases": None, "seconds": None}
    settings = Settings(**(values | given))
    if settings.cases is None and settings.seconds is None and not settings.only:
        raise UsageError("a campaign needs a number of cases or of seconds")
    for key in ("cases", "seconds", "backend_every", "timeout", "memory", "recycle", "crash_calls"):
        value = getattr(settings, key)
        if value is not None and value <= 0 and not (key == "cases" and value == 0):
            raise UsageError(f"{key.replace('_', '-')} must be positive, not {value}")
    if any(index < 0 for index in settings.only):
        raise UsageError("cases are counted from 0")
    return settings
