"""The example package: installed, listed, run; and the same pass written in a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import graphopt as go

EXAMPLE = Path(__file__).parents[1] / "plugin_example"


class Relu6(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.hardtanh(x, 0.0, 6.0)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip put the example package."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "plugin_example.py"):  # pip writes its build folder next to them
        (source / name).write_bytes((EXAMPLE / name).read_bytes())
    target = tmp_path_factory.mktemp("site")
    words = "-m pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check --target"
    subprocess.run([sys.executable, *words.split(), str(target), str(source)], check=True, timeout=300)
    return target


def _graphopt(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.append({str(installed)!r}); from graphopt.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_an_installed_package_adds_its_pass(installed: Path, tmp_path: Path) -> None:
    go.capture(Relu6().eval(), (torch.randn(4),)).save(tmp_path / "model.pt2")
    listed = _graphopt(installed, "passes", "--json", "-")
    assert listed.returncode == 0, listed.stderr
    found = {p["name"]: p for p in json.loads(listed.stdout)["passes"]}
    assert found["relu6-to-clip"]["summary"] == "hardtanh(x, 0, 6) -> clamp(x, 0, 6)."
    done = _graphopt(
        installed, "opt", str(tmp_path / "model.pt2"), "--passes", "relu6-to-clip", "--text", "--quiet"
    )
    assert done.returncode == 0, done.stderr
    assert "clamp(" in done.stdout and "hardtanh" not in done.stdout


def test_the_same_pass_in_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the documentation."""
    from graphopt.passmanager import registry

    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    names: dict[str, Any] = {"__name__": "script"}
    exec((EXAMPLE / "plugin_example.py").read_text(), names)
    program = go.capture(Relu6().eval(), (torch.randn(4),))
    pipeline = go.PassManager([names["Relu6ToClip"](), "cleanup"], instruments=[go.Timing()])
    result = pipeline.run(program)
    assert "hardtanh" not in str(result.program)
    assert go.PassManager("relu6-to-clip").run(program).rewrites == 1
    whole = go.capture(Relu6().eval(), (torch.arange(4),))
    assert go.PassManager("relu6-to-clip").run(whole).rewrites == 0, "x is not floating point"
    go.verify(program, result.program, contract=result.contract).raise_if_failed()
