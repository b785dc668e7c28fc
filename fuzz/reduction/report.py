"""What is told of a finding, for programs and for people."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping
from typing import Any

from graphopt.fuzz.reduction.reducer import Reduced

SCHEMA = "graphopt.fuzz.finding/1"

_PACKAGES = ("graphopt", "torch", "onnx", "onnxruntime", "apache-tvm", "numpy")


def to_dict(reduced: Reduced, oracle: str, command: str) -> dict[str, Any]:
    """The report for programs; JSON-able."""
    problem = reduced.finding.problem
    return {
        "schema": SCHEMA,
        "title": str(problem.signature),
        "signature": vars(problem.signature).copy(),
        "message": problem.message,
        "facts": {str(key): _plain(value) for key, value in problem.facts.items()},
        "oracle": oracle,
        "reproduced": reduced.reproduced,
        "versions": versions(),
        "command": command,
        "operators": {
            "original": len(reduced.original.graph.operators),
            "reduced": len(reduced.case.graph.operators),
        },
        "calls": reduced.calls,
        "steps": [vars(step).copy() for step in reduced.steps],
        "case": reduced.case.to_dict(),
        "original": reduced.original.to_dict(),
    }


def versions() -> dict[str, str]:
    """Of Python, the system, and the packages whose code may be at fault."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def markdown(data: Mapping[str, Any], graph: str) -> str:
    """The report for people.

    Args:
        data: what :func:`to_dict` made.
        graph: the reduced graph as text.
    """
    case, signature = data["case"], data["signature"]
    rows = [
        ("component", signature["component"]),
        ("property", signature["oracle"]),
        ("kind", signature["kind"]),
        ("detail", signature["detail"]),
        ("oracle", data["oracle"]),
        ("passes", ", ".join(case["passes"]) or "none"),
        ("seed", case["seed"]),
        ("case", case["label"]),
        ("operators", f"{data['operators']['original']} -> {data['operators']['reduced']}"),
        ("oracle calls", data["calls"]),
        ("command", f"`{data['command']}`" if data["command"] else ""),
    ]
    parts = [f"# {data['title']}", data["message"]]
    if not data["reproduced"]:
        parts.append("**It did not come back when the case was tried again; nothing was reduced.**")
    parts += [_table(("", ""), rows), "```text", graph, "```"]
    if data["facts"]:
        parts += ["## Measured", _table(("fact", "value"), list(data["facts"].items()))]
    parts += [
        "## Show it again",
        "`python repro.py` exits with 1 while the problem is there, `graphopt reduce --check .` with 7.",
        "## Versions",
        _table(("package", "version"), list(data["versions"].items())),
        "## Reduction",
        "\n".join(
            f"{i}. {'kept' if step['kept'] else 'gone'}: {step['words']} ({step['operators']} operators)"
            for i, step in enumerate(data["steps"], 1)
        ),
    ]
    return "\n\n".join(parts).replace("```text\n\n", "```text\n").replace("\n\n```\n", "\n```\n") + "\n"


def _table(columns: tuple[str, str], rows: list[tuple[str, Any]]) -> str:
    lines = [f"| {columns[0]} | {columns[1]} |", "|---|---|"]
    for name, value in rows:
        if value != "":
            lines.append(f"| {name} | {_cell(value)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _plain(value: Any) -> Any:
    """As JSON has it; what is not finite, which JSON lacks, and what it does not know as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
