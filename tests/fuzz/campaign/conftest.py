"""Campaigns over planted findings, run once for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphopt.fuzz.campaign import CampaignReport, Settings, Watcher, profile_settings
from graphopt.workflows.fuzz import fuzz

CASES = 24
_PLANTED = "tests.fuzz.campaign.planted"


def planted(oracles: str = "mild_oracles", **changes: Any) -> Settings:
    """Settings of a campaign with the planted generator and oracles."""
    values: dict[str, Any] = {
        "cases": CASES,
        "backends": ("backend",),
        "backend_every": 4,
        "timeout": 6.0,
        "memory": 2.0,
        "replay": False,
        "generator": f"{_PLANTED}:generate",
        "oracles": f"{_PLANTED}:{oracles}",
        "backend_oracles": f"{_PLANTED}:backend_oracles",
    }
    return profile_settings("pr", **(values | changes))


def without_times(report: CampaignReport) -> dict[str, Any]:
    """The report as JSON, without what depends on the clock or on where its folder is."""
    data = report.to_dict()
    return {key: value for key, value in data.items() if key not in ("seconds", "stage_seconds")}


class Recorder(Watcher):
    """Counts chunks; an interrupt comes after the one of a number."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.chunks = 0
        self.interrupt_after = interrupt_after

    def progressed(self, tally: Any, new: Any) -> None:
        self.chunks += 1
        if self.chunks == self.interrupt_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="session")
def deadly() -> CampaignReport:
    """One worker, cases that crash, hang, leave and take all memory."""
    return fuzz(planted("all_oracles"), jobs=1)


@pytest.fixture(scope="session")
def campaign_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a campaign with findings leaves; only to be read."""
    folder = tmp_path_factory.mktemp("campaign") / "out"
    fuzz(planted(), jobs=1, out=folder)
    return folder
