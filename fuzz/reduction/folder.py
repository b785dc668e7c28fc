"""A finding as a folder: a script that shows it, the case, its numbers, and a report for people and one for
programs.

===============  =====================================================================================
``repro.py``     exit status 1 while the problem is there, 0 when it is gone
``graph.json``   the case, as files of the corpus have it
``inputs.npz``   ``input.NAME`` and ``weight.NAME``, and ``expected.I``: output ``I`` in float64
``report.md``    what is wrong, where, by how much, and with which versions
``report.json``  the same, the case as it was found, and every step of the reduction
===============  =====================================================================================
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphopt.errors import InputError
from graphopt.files import atomic_files, write_folder_atomically
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.findings import Finding, Problem, Signature
from graphopt.fuzz.graphs import build_program, draw_inputs, draw_weights
from graphopt.fuzz.reduction.reducer import Reduced
from graphopt.fuzz.reduction.report import SCHEMA, markdown, to_dict
from graphopt.fuzz.reduction.script import script
from graphopt.verification.reference import Float64Interpreter, run_eagerly

CASE_SCHEMA = "graphopt.fuzz.case/1"


@dataclass(frozen=True)
class StoredFinding:
    """What a folder holds.

    Attributes:
        finding: the case, and its problem.
        original: the case as it was found, where the folder has it.
        oracle: name of the oracle that sees the problem.
        command: the command line of the campaign.
    """

    finding: Finding
    original: FuzzCase
    oracle: str
    command: str = ""


def write_finding(
    folder: str | os.PathLike[str], reduced: Reduced, oracle: str, *, command: str = ""
) -> None:
    """Writes the folder of a finding: all of it or nothing.

    Files of an earlier reduction in the same folder are replaced, others stay.

    Args:
        folder: is there already, or can be made in a folder that is.
        reduced: what to write.
        oracle: name of the oracle that sees the problem.
        command: the command line that found it.

    Raises:
        InputError: GO-3001, the folder cannot be written.
    """
    case = reduced.case
    data = to_dict(reduced, oracle, command)
    about = f"{reduced.finding.signature}: {reduced.finding.problem.message}"
    contents = {
        "graph.json": _text({"schema": CASE_SCHEMA, "about": about, "case": case.to_dict()}),
        "inputs.npz": _arrays(case),
        "report.md": markdown(data, str(case.graph)).encode(),
        "report.json": _text(data),
        "repro.py": script(reduced.finding, oracle).encode(),
    }
    if (Path(folder) / "report.json").is_file():
        with atomic_files(folder) as files:
            for name, content in contents.items():
                files.open(name).write(content)
    else:
        write_folder_atomically(folder, contents)


def read_finding(folder: str | os.PathLike[str]) -> StoredFinding:
    """What :func:`write_finding` wrote.

    Raises:
        InputError: GO-3001, there is no such folder; GO-3000, it is not the folder of a finding.
    """
    path = Path(folder) / "report.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA!r}")
        problem = Problem(Signature(**data["signature"]), data["message"], data["facts"])
        return StoredFinding(
            Finding(FuzzCase.from_dict(data["case"]), problem),
            FuzzCase.from_dict(data["original"]),
            str(data["oracle"]),
            str(data["command"]),
        )
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {error.strerror}", code="GO-3001") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r} is no report of a finding: {error}") from error


def read_case(file: str | os.PathLike[str]) -> FuzzCase:
    """The case in a file of the corpus, or in the ``graph.json`` of a finding.

    Raises:
        InputError: GO-3001, it cannot be read; GO-3000, it is no case.
    """
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("schema") != CASE_SCHEMA:
            raise ValueError(f"its schema is not {CASE_SCHEMA!r}")
        return FuzzCase.from_dict(data["case"])
    except OSError as error:
        raise InputError(f"cannot read {str(file)!r}: {error.strerror}", code="GO-3001") from error
    except (ValueError, KeyError) as error:
        raise InputError(f"{str(file)!r} holds no case of the fuzzer: {error}") from error


def _text(data: Any) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()


def _arrays(case: FuzzCase) -> bytes:
    """Inputs, weights and the outputs in float64; bfloat16, which NumPy lacks, as float32."""
    inputs = draw_inputs(case.graph, case.seed)
    arrays = {f"input.{leaf.name}": _array(x) for leaf, x in zip(case.graph.inputs, inputs, strict=True)}
    arrays |= {f"weight.{name}": _array(x) for name, x in draw_weights(case.graph, case.seed).items()}
    arrays |= {f"expected.{i}": _array(y) for i, y in enumerate(_expected(case, inputs))}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _expected(case: FuzzCase, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The outputs in float64; none where torch does not run the case, which is then the problem."""
    try:
        module = build_program(case.graph, case.seed).graph_module
        return Float64Interpreter(module, run_eagerly(module, inputs)[1]).run_in_float64(inputs)
    except (InputError, RuntimeError):
        return ()


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().resolve_conj()
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
