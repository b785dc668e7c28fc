"""Every command does its work, with the result on stdout and everything else on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphopt as go
from graphopt.cli.main import COMMANDS
from tests.cli.conftest import Graphopt


def _json(text: str) -> Any:
    """Strict JSON: no NaN, nothing before or after."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help(graphopt: Graphopt, command: str) -> None:
    outcome = graphopt(command, "--help")
    assert outcome.status == 0 and outcome.err == ""
    assert outcome.out.startswith(f"Usage: graphopt {command}")
    flags = [w.strip(",") for w in outcome.out.split() if w.startswith("--")]
    assert all(flag == flag.lower() and "_" not in flag for flag in flags)


def test_without_a_command_there_is_help(graphopt: Graphopt) -> None:
    assert graphopt() == graphopt("--help")
    assert all(command in graphopt().out for command in COMMANDS)


def test_version(graphopt: Graphopt) -> None:
    assert go.__version__ in graphopt("--version").out


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graphopt", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"graphopt, version {go.__version__}\n" and done.stderr == ""


def test_an_empty_pipeline_rewrites_nothing(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("opt", "model.onnx", "-o", "same.onnx", "--passes", "")
    assert done.status == 0, done.err
    assert go.load("same.onnx").operator_nodes()


def test_compile_and_run(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("compile", "model.onnx", "-o", "a.so", "--target", "cpu", "--json", "r.json")
    assert done.status == 0, done.err
    assert "cleanup: 2 -> 2 operators" in done.err and "cleanup:" not in done.out
    for words in ("passes", "verification", "artifact", "kernels for cpu", "artifact: a.so"):
        assert words in done.out
    report = _json((here / "r.json").read_text())
    assert report["schema"] == "graphopt.compile/1" and report["output"] == "a.so"
    assert set(report["checks"]) == {"capture", "artifact"}
    assert all(check["ok"] for check in report["checks"].values())
    ran = graphopt("run", "a.so", "--input", "x.npz", "--output", "y.npz")
    assert ran.status == 0 and ran.err == "" and "outputs: y.npz" in ran.out
    eager = graphopt("run", "model.onnx", "--input", "x.npz", "--output", "z.npz")
    assert eager.status == 0
    with np.load("y.npz") as y, np.load("z.npz") as z, np.load("x.npz") as x:
        assert y.files == z.files == ["y"] and y["y"].shape == (3, 4)
        report = go.compare("model.onnx", lambda _: (y["y"],), inputs=dict(x), draws=1)
    assert (Path("a.so").stat().st_mode & 0o111) != 0


def test_compile_without_output_writes_nothing(graphopt: Graphopt, here: Path) -> None:
    before = sorted(here.iterdir())
    done = graphopt("compile", "model.onnx", "--json", "-", "--quiet", "--dim", "batch=2")
    assert done.status == 0 and done.err == ""
    report = _json(done.out)
    assert report["output"] is None and report["signature"]["inputs"][0]["shape"] == [2, 8]
    assert sorted(here.iterdir()) == before


def test_unverified_is_said(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("compile", "model.onnx", "--verify", "off")
    assert done.status == 0 and "not verified: verification was switched off" in done.out


@pytest.mark.parametrize("output", ["out.onnx", "out.pt2"])
def test_opt(graphopt: Graphopt, here: Path, output: str) -> None:
    done = graphopt("opt", "model.onnx", "-o", output, "--passes", "cleanup", "--json", "-", "-q")
    assert done.status == 0 and done.err == ""
    report = _json(done.out)
    assert report["schema"] == "graphopt.opt/1" and report["output"] == output
    assert report["passes"][0]["pass"] == "cleanup"
    compared = graphopt("compare", "model.onnx", output)
    assert compared.status == 0 and "ok" in compared.out


def test_opt_verifies_on_the_users_data(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("opt", "model.onnx", "--inputs", "x.npz", "--json", "-", "-q")
    assert done.status == 0 and '"batch 0"' in done.out


def test_opt_shows_what_passes_do(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("opt", "model.onnx", "--text", "--print-after", "cleanup", "--dump", "dump")
    assert done.status == 0
    assert "linear" in done.out and "layer" not in done.err.split("// after cleanup")[0]
    assert "// after cleanup" in done.err and "// after" not in done.out
    assert (here / "dump" / "00-input.txt").exists()


def test_opt_bisect(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("opt", "model.onnx", "--bisect", "--inputs", "x.npz")
    assert done.status == 0 and done.out.startswith("every pass is right")


def test_compare_tells_a_difference(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("compare", "model.onnx", "other.onnx", "--json", "r.json")
    assert done.status == 5
    assert "error[GO-5000]" in done.err and "other.onnx" in done.out and "error[" not in done.out
    assert _json((here / "r.json").read_text())["ok"] is False
    assert graphopt("compare", "model.onnx", "model.so").status == 0
    assert graphopt("compare", "other.onnx", "model.so").status == 5


def test_inspect(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("inspect", "model.onnx")
    assert done.status == 0
    assert "x: float32[batch, 8]" in done.out and "batch in" in done.out and "matmul" in done.out
    assert "fc/matmul" in graphopt("inspect", "model.onnx", "--text").out
    why = graphopt("inspect", "model.onnx", "--why", "fuse-linear", "--json", "-")
    assert any(w["fits"] and w["layer"] == "fc/matmul" for w in _json(why.out)["why"])
    assert "fc/matmul" in graphopt("inspect", "model.onnx", "--why", "cleanup").out
    artifact = graphopt("inspect", "model.so")
    assert artifact.status == 0 and "kernels" in artifact.out
    assert "T.prim_func" in graphopt("inspect", "model.so", "--source").out


def test_bench(graphopt: Graphopt, here: Path) -> None:
    done = graphopt(
        *("bench", "model.so", "--against", "onnxruntime", "--json", "-"),
        *("--threads", "1", "--rounds", "1", "--seconds", "0.01", "--dim", "batch=2"),
    )
    assert done.status == 0, done.err
    report = _json(done.out)
    assert list(report["engines"]) == ["graphopt", "onnxruntime"]
    assert report["inputs"] == {"x": [2, 8]} and report["engines"]["graphopt"]["ratio"] == 1.0


def test_passes(graphopt: Graphopt) -> None:
    assert "cleanup" in graphopt("passes").out
    one = graphopt("passes", "cleanup")
    assert one.status == 0 and "contract: exact" in one.out and "constant-folding" in one.out
    assert "training" in one.out
    (found,) = _json(graphopt("passes", "cleanup", "--json", "-").out)["passes"]
    assert found["options"] == [{"name": "training", "type": "bool", "default": "false"}]


def test_targets(graphopt: Graphopt) -> None:
    found = _json(graphopt("targets", "--json", "-").out)["targets"]
    assert {"cpu", "cuda"} <= {t["name"] for t in found}
    assert "cpu" in graphopt("targets").out


def test_doctor(graphopt: Graphopt) -> None:
    done = graphopt("doctor", "--json", "-")
    findings = {f["name"]: f for f in _json(done.out)["findings"]}
    assert findings["code generation"]["ok"] is True
    assert done.status == (6 if any(f["ok"] is False for f in findings.values()) else 0)


def test_reports_are_json_even_of_infinite_errors(capsys: pytest.CaptureFixture[str]) -> None:
    from graphopt.cli.output import write_json

    write_json({"errors": [float("inf"), float("nan"), 1.0], "shape": (1, 2)}, "-")
    assert _json(capsys.readouterr().out) == {"errors": [None, None, 1.0], "shape": [1, 2]}
