"""Campaigns on a Dask cluster: the same findings, and no case lost with a worker."""

from __future__ import annotations

import builtins
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphopt.errors import TargetError, UsageError
from graphopt.fuzz.campaign import cluster
from graphopt.fuzz.campaign.cluster import ClusterExecutor
from graphopt.workflows.fuzz import fuzz
from tests.fuzz.campaign.conftest import planted, without_times

_SCRIPT = """
import json, os, signal, sys
from graphopt.fuzz.campaign import Watcher
from graphopt.fuzz.campaign.cluster import ClusterExecutor
from graphopt.fuzz.campaign.runner import Campaign
from tests.fuzz.campaign.conftest import planted, without_times

class Killer(Watcher):
    killed = 0
    def progressed(self, tally, new):
        if not self.killed:
            self.killed = sorted(executor.client.run(os.getpid).values())[0]
            os.kill(self.killed, signal.SIGKILL)

if __name__ == "__main__":
    settings, killer = planted(cases=40, backends=()), Killer()
    executor = ClusterExecutor(settings, "local:2")
    try:
        report = Campaign(settings, watcher=killer).run(executor)
        assert killer.killed
        json.dump(without_times(report), sys.stdout)
    finally:
        executor.close()
"""


def test_a_worker_is_killed_and_the_report_is_that_of_one_process(tmp_path: Path) -> None:
    """In a process of its own, as the cluster's workers are copies of the one that starts them."""
    script = tmp_path / "on_a_cluster.py"
    script.write_text(_SCRIPT)
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    here = json.loads(json.dumps(without_times(fuzz(planted(cases=40, backends=()), jobs=1))))
    there = json.loads(done.stdout)
    for report in (here, there):
        for key in ("passes", "rules", "idle_passes", "idle_rules"):
            del report["coverage"][key]  # other tests in this process register passes
    assert here == there


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 2.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TargetError, match="no Dask cluster answers") as caught:
            ClusterExecutor(planted(), address)
    assert caught.value.code == "GO-6003"


def test_dask_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "distributed":
            raise ModuleNotFoundError("No module named 'distributed'")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TargetError, match="not installed") as caught:
        ClusterExecutor(planted(), "local:1")
    assert caught.value.hint == "pip install 'graphopt[dask]'"


@pytest.mark.parametrize("scheduler", ["local:", "local:x", "local:0"])
def test_a_cluster_of_no_size(scheduler: str) -> None:
    with pytest.raises(UsageError, match="number of workers"):
        ClusterExecutor(planted(), scheduler)
