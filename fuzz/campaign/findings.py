"""Findings made small, each in a folder of its own."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphopt.files import write_folder_atomically
from graphopt.fuzz.campaign.local import Executor
from graphopt.fuzz.campaign.records import problem_to_dict
from graphopt.fuzz.campaign.report import CampaignReport, ReportedFinding
from graphopt.fuzz.campaign.watcher import Watcher
from graphopt.fuzz.cases import FuzzCase

FOLDER = "findings"
_SECONDS = 300.0
"""A reduction that takes longer is given up, and the case stays as it was found."""

_MOST = 64
"""Findings that are made small; a campaign with more has something wrong with it as a whole."""


def reduce_findings(
    report: CampaignReport, executor: Executor, folder: Path, watcher: Watcher
) -> CampaignReport:
    """Makes each new finding small, and writes its folder below ``folder/findings``.

    An interrupt ends it; the report then holds what was made small by then.

    Raises:
        InputError: GO-3001, a folder cannot be written.
    """
    wanted = [f for f in report.new if f.case is not None and f.oracle][:_MOST]
    small: dict[str, ReportedFinding] = {}
    tasks = (_task(finding, report) for finding in wanted)
    interrupted, done = False, 0
    try:
        with contextlib.closing(executor.reduce(tasks, _SECONDS)) as answers:
            for number, answer in answers:
                done += 1
                watcher.reducing(done, len(wanted))
                if answer is not None:
                    finding = wanted[number]
                    small[str(finding.signature)] = _stored(finding, answer, folder, number)
    except KeyboardInterrupt:
        interrupted = True
    findings = tuple(small.get(str(f.signature), f) for f in report.findings)
    return replace(report, findings=findings, interrupted=interrupted)


def _task(finding: ReportedFinding, report: CampaignReport) -> dict[str, Any]:
    assert finding.case is not None
    label = finding.labels[0]
    again = f"--only {label.partition('/')[2]}" if "/" in label else "--cases 0"
    if report.settings.passes:
        again += f" --passes '{','.join(report.settings.passes)}'"
    return {
        "case": finding.case.to_dict(),
        "problem": problem_to_dict(finding.problem),
        "oracle": finding.oracle,
        "command": f"graphopt fuzz --seed {report.settings.seed} {again}",
    }


def _stored(finding: ReportedFinding, answer: dict[str, Any], folder: Path, number: int) -> ReportedFinding:
    """The finding with what the reducer made of it, its folder written."""
    name = f"{FOLDER}/{number:03}-{slug(finding)}"
    (folder / FOLDER).mkdir(exist_ok=True)
    if not (folder / name).exists():  # a campaign that is resumed has it already
        files = {file: base64.b64decode(data) for file, data in answer["files"].items()}
        write_folder_atomically(folder / name, files)
    case = FuzzCase.from_dict(answer["case"]) if answer["reproduced"] else None
    return replace(finding, reduced=case, oracle_calls=answer["calls"], folder=name)


def slug(finding: ReportedFinding) -> str:
    """The signature as a part of a file's name."""
    signature = finding.signature
    parts = (signature.component, signature.oracle, signature.kind)
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")[:80]


def packed(files: Iterator[Path]) -> dict[str, str]:
    """The contents of files by name, as text that JSON can hold."""
    return {file.name: base64.b64encode(file.read_bytes()).decode() for file in files}
