"""``graphopt inspect``: what is in a model."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from graphopt.errors import UsageError
from graphopt.files import existing_file
from graphopt.ir.program import Program
from graphopt.ir.text import operator_name
from graphopt.passmanager.base import RulePass, flatten
from graphopt.passmanager.registry import build_pipeline
from graphopt.rewriting.driver import NearMatch, explain
from graphopt.workflows.loading import load


@dataclass
class Inspection:
    """What :func:`inspect` found.

    Attributes:
        kind: ``"program"`` or ``"artifact"``.
        signature: as the text of each input and output.
        dims: ranges of symbolic dimensions.
        operators: how often each occurs; for artifacts, the schedule rules of the kernels.
        parameters: number of elements in parameters and constants.
        bytes: their size.
        notes: what capture found.
        why: for ``why``: matches and near matches of the pass's rules.
        details: for artifacts, what the file says about itself.
    """

    kind: str
    inputs: list[str]
    outputs: list[str]
    dims: dict[str, str]
    operators: dict[str, int]
    parameters: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
    why: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"schema": "graphopt.inspect/1", **self.__dict__}


def inspect(model: str | os.PathLike[str] | Program, *, why: str | None = None) -> Inspection:
    """Summarises a model or an artifact.

    Args:
        model: a file or a program.
        why: a pass (or pipeline); its rules are tried everywhere, and each place where one fits, or
            begins to fit and does not, is listed with the reason.

    Raises:
        InputError: the file cannot be read.
        UsageError: ``why`` is not a pass.
    """
    passes = build_pipeline(why) if why else []
    if not isinstance(model, Program):
        path = existing_file(model)
        if path.suffix in (".so", ".tar"):
            if why:
                raise UsageError("why is about models; in an artifact the passes have already run")
            return _artifact(path)
        model = load(path)
    constants = model.constants.values()
    found = Inspection(
        "program",
        [str(s) for s in model.signature.inputs],
        [str(s) for s in model.signature.outputs],
        {n: str(r) for n, r in model.signature.dims.items()},
        dict(Counter(operator_name(n.target) for n in model.operator_nodes()).most_common()),
        sum(c.numel() for c in constants),
        sum(c.numel() * c.element_size() for c in constants),
        list(model.notes),
    )
    for item in flatten(passes):
        if not isinstance(item, RulePass):
            continue
        for place in explain(model, item.rules()):
            if isinstance(place, NearMatch):
                found.why.append({"pass": item.name, "fits": False, **place.__dict__})
            else:
                node = place.result.node
                found.why.append(
                    {
                        "pass": item.name,
                        "fits": True,
                        "rule": place.rule,
                        "node": node.name,
                        "layer": place.layer,
                        "reason": "",
                        "matched": len(place.nodes),
                    }
                )
    return found


def _artifact(path: Any) -> Inspection:
    from graphopt.codegen import load_artifact

    artifact = load_artifact(path)
    signature = artifact.signature
    return Inspection(
        "artifact",
        [str(s) for s in signature.inputs],
        [str(s) for s in signature.outputs],
        {n: str(r) for n, r in signature.dims.items()},
        dict(Counter(k.rule for k in artifact.kernels()).most_common()),
        bytes=path.stat().st_size,
        details={
            "target": artifact.target.name,
            "graphopt": artifact.metadata["graphopt"],
            "hashes": artifact.metadata["hashes"],
            "source": artifact.metadata.get("source"),
            "kernels": [k.name for k in artifact.kernels()],
            "gpu_kernels": [k.to_dict() for k in artifact.gpu_kernels()],
        },
    )
