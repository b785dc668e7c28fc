"""The entries of known issues: complete, true of this repository, and some of their scripts run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from benchmarks import known_issues as command
from graphopt.fuzz.findings import Signature
from graphopt.fuzz.known import KnownIssue, explanation, issues, known_issues
from graphopt.fuzz.known.scripts import run_script

ROOT = Path(__file__).parents[3]
CHEAP = ("onnxruntime-pow-integers", "onnxruntime-small-types")

pytestmark = pytest.mark.checkout


@pytest.mark.parametrize("issue", known_issues(), ids=lambda issue: issue.id)
def test_an_entry_is_complete_and_its_script_stands_alone(issue: KnownIssue) -> None:
    assert issue.sentence.endswith(".") and issue.workaround and issue.versions
    assert {f.name for f in issue.folder.iterdir()} - {"__pycache__"} == {"issue.toml", "repro.py"}
    text = issue.script.read_text()
    imported = {
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {str(node.module) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    allowed = ("sys", "numpy", "torch", "onnx", "onnxruntime", "tvm", "ml_dtypes")
    assert {name.partition(".")[0] for name in imported} <= set(allowed)
    assert "still there:" in text and "gone" in text
    for pattern in issue.signatures:
        re.compile(pattern)


@pytest.mark.parametrize("issue", [i for i in known_issues() if i.place], ids=lambda issue: issue.id)
def test_the_workaround_is_where_the_entry_says(issue: KnownIssue) -> None:
    assert issue.place is not None
    file, _, name = issue.place.partition(":")
    tree = ast.parse((ROOT / file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not name or name in defined


def test_the_page_lists_every_issue() -> None:
    assert (ROOT / "docs" / "known_issues.md").read_text() == command.page(known_issues())


@pytest.mark.parametrize("name", CHEAP)
def test_bugs_that_are_quickly_shown_are_still_there(name: str) -> None:
    (issue,) = command.chosen([name])
    result = run_script(issue.script.read_text(), 60)
    assert (result.status, command.other_versions(issue)) == ("still there", []), result.detail


def _issue(folder: Path, script: str, *signatures: str, **versions: str) -> KnownIssue:
    (folder / "repro.py").write_text(script)
    return KnownIssue("tvm-x", "tvm", versions, "It is wrong.", "none", None, signatures, folder)


@pytest.mark.parametrize(
    ("script", "status", "detail"),
    [
        ("print('still there: 3'); raise SystemExit(1)", "still there", "3"),
        ("print('gone')", "gone", "gone"),
        ("import tvm_that_is_not_there", "broken", "ModuleNotFoundError"),
        ("print('still there: 3'); raise SystemExit(2)", "broken", "exit status 2"),
    ],
)
def test_what_a_script_says_is_understood(script: str, status: str, detail: str) -> None:
    result = run_script(script, 60)
    assert result.status == status and detail in result.detail


def test_a_script_without_end_is_broken() -> None:
    assert run_script("while True: pass", 0.5).detail == "no end after 0.5 s"


def test_a_bug_that_is_gone_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = _issue(tmp_path, "print('gone')", torch="1.0")
    monkeypatch.setattr(command, "known_issues", lambda: (gone,))
    page = tmp_path / "page.md"
    assert command.main(["--write", str(page)]) == 1
    captured = capsys.readouterr()
    assert "workarounds and entries can go: tvm-x" in captured.err and "seen in 1.0" in captured.out
    assert not page.exists()
    (tmp_path / "repro.py").write_text("print('still there: so'); raise SystemExit(1)")
    assert command.main(["--write", str(page)]) == 0
    assert "It is wrong." in page.read_text()
    with pytest.raises(SystemExit, match="there is no known issue 'tvm-y'; did you mean 'tvm-x'"):
        command.main(["tvm-y"])


def test_findings_of_a_known_signature_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issue = _issue(tmp_path, "", r"onnxruntime:onnx-file:.*NOT_IMPLEMENTED.*")
    monkeypatch.setattr(issues, "known_issues", lambda: (issue,))
    signature = Signature("onnxruntime", "onnx-file", "exception", "NOT_IMPLEMENTED : Conv")
    assert explanation(signature) is issue
    assert explanation(Signature("export", "onnx-file", "exception", "NOT_IMPLEMENTED")) is None


def test_malformed_entries_are_refused(tmp_path: Path) -> None:
    good = 'component = "tvm"\nversions = {}\nsentence = "."\nworkaround = "w"\n'
    for name, text, words in [
        ("tvm-a", "", "has no 'component'"),
        ("tvm-a", good + "speed = 1\n", "unknown keys: speed"),
        ("onnx-a", good, "does not begin with its component"),
        ("llvm-a", good.replace("tvm", "llvm"), "does not begin"),
    ]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "issue.toml").write_text(text)
        with pytest.raises(ValueError, match=words):
            issues._read(folder / "issue.toml")
