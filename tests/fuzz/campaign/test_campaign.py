"""Campaigns: what is found does not depend on who looks, and nothing that a case does ends one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt.errors import InputError, InternalError, UsageError
from graphopt.fuzz.campaign import CampaignReport
from graphopt.fuzz.campaign.corpus import NamedCase, read_corpus
from graphopt.fuzz.campaign.journal import NAME
from graphopt.fuzz.campaign.local import LocalExecutor
from graphopt.fuzz.campaign.runner import Campaign
from graphopt.fuzz.findings import Signature
from graphopt.fuzz.known import KnownIssue
from graphopt.workflows.fuzz import REPORTS, fuzz, resume
from tests.fuzz.campaign import planted as plants
from tests.fuzz.campaign.conftest import CASES, Recorder, planted, without_times


def statuses(report: CampaignReport) -> dict[str, str]:
    return {row.label: row.status for row in report.rows if row.stream == "passes"}


def test_every_case_is_accounted_for(deadly: CampaignReport) -> None:
    assert deadly.counts() == {"corpus": 0, "known": 0, "passes": CASES, "backends": CASES // 4}
    assert [row.label for row in deadly.rows[:CASES]] == [f"0/{i}" for i in range(CASES)]


def test_a_crash_and_a_hang_name_their_cases_and_the_campaign_goes_on(deadly: CampaignReport) -> None:
    found = statuses(deadly)
    assert {label: s for label, s in found.items() if s in ("crash", "timeout")} == {
        "0/5": "crash",
        "0/9": "timeout",
        "0/20": "crash",
    }
    by_label = {f.labels[0]: f for f in deadly.findings}
    assert "SIGSEGV" in by_label["0/5"].signature.detail
    assert any("check" in frame for frame in by_label["0/5"].problem.facts["stack"])
    assert by_label["0/20"].signature.detail == "exit status 3"
    assert by_label["0/9"].signature == Signature("cleanup", "deadly", "timeout")
    crashed = by_label["0/5"].case
    assert crashed is not None and crashed.label == "0/5"
    assert found["0/6"] == "ok"


def test_an_allocation_beyond_the_limit_fails_alone(deadly: CampaignReport) -> None:
    problem = next(f.problem for f in deadly.findings if f.labels[0] == "0/22")
    assert "memory" in problem.message
    assert statuses(deadly)["0/23"] == "ok"


def test_what_generators_and_oracles_raise_is_a_finding(deadly: CampaignReport) -> None:
    failed = next(f for f in deadly.findings if f.signature.component == "generator")
    assert (
        failed.labels == ("0/13",) and failed.case is None and failed.problem.message.endswith("unlucky 13")
    )
    broken = next(f for f in deadly.findings if f.signature.oracle == "raises")
    assert broken.signature.component == "fuzzer" and len(broken.labels) > 1


def test_cases_of_one_signature_are_one_finding(deadly: CampaignReport) -> None:
    three_rows = next(f for f in deadly.findings if f.signature.oracle == "planted-backend")
    assert three_rows.labels == ("0/4", "0/16")
    assert deadly.components()["codegen"] == {"new": 1, "known": 0, "cases": 2}
    assert len({f.signature for f in deadly.findings}) == len(deadly.findings)


def test_two_workers_find_what_one_finds(deadly: CampaignReport) -> None:
    assert (
        without_times(fuzz(planted("all_oracles"), jobs=2))["findings"] == (without_times(deadly)["findings"])
    )


def test_cases_that_crash_only_together_are_looked_at_alone() -> None:
    report = fuzz(planted("no_oracles", backends=("together",), backend_every=1, cases=16, recycle=8), jobs=1)
    rows = [row for row in report.rows if row.stream == "backends"]
    assert all(row.status in ("ok", "found") for row in rows) and len(rows) == 16
    assert {row.label for row in rows if row.status == "found"} == {f"0/{i}" for i in (1, 4, 7, 10, 13)}


def test_another_seed_draws_other_cases(campaign_folder: Path) -> None:
    first = plants.generate(0, 3, ())
    assert plants.generate(0, 3, ()) == first
    assert any(plants.generate(1, i, ()).graph != plants.generate(0, i, ()).graph for i in range(5))


# -- interrupts and folders ----------------------------------------------------------------------------


def test_an_interrupt_keeps_what_was_done_and_resume_does_the_rest(
    campaign_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    partial = fuzz(planted(), jobs=1, out=out, watcher=Recorder(interrupt_after=2))
    assert partial.interrupted and 0 < len(partial.rows) < CASES + CASES // 4
    assert json.loads((out / "report.json").read_text())["interrupted"] is True
    with (out / NAME).open("a") as journal:
        journal.write('{"chunk": {"stream": "pas')  # the process was killed while it wrote
    again = Recorder()
    resume(out, jobs=1, watcher=again)
    left, whole = (json.loads((f / "report.json").read_text()) for f in (out, campaign_folder))
    for data in (left, whole):
        del data["seconds"], data["stage_seconds"]
    assert left == whole


def test_the_folder_of_a_campaign(campaign_folder: Path) -> None:
    names = {path.name for path in campaign_folder.iterdir()}
    assert names == {*REPORTS, NAME, "findings"}
    report = json.loads((campaign_folder / "report.json").read_text())
    for finding in report["findings"]:
        if finding["oracle"]:
            folder = campaign_folder / finding["folder"]
            assert {path.name for path in folder.iterdir()} >= {"repro.py", "graph.json", "report.md"}
            assert finding["reduced"] is not None and finding["oracle_calls"] <= 60
    small = next(f for f in report["findings"] if f["signature"]["oracle"] == "planted-backend")
    assert small["reduced"]["graph"]["leaves"][0]["shape"][0] == 3


def test_a_crash_is_made_small_from_outside(tmp_path: Path) -> None:
    settings = planted("all_oracles", only=(5,), backends=(), crash_calls=2)
    report = fuzz(settings, jobs=1, out=tmp_path / "out")
    (finding,) = report.findings
    assert finding.signature.kind == "crash" and finding.oracle == "deadly" and finding.oracle_calls == 2
    assert finding.folder is not None and (tmp_path / "out" / finding.folder / "repro.py").is_file()
    assert finding.reduced is not None and len(finding.reduced.graph.calls) == 1


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        fuzz(planted(), out=tmp_path)
    with pytest.raises(InputError, match="no campaign to resume"):
        resume(tmp_path)
    (tmp_path / NAME).write_text("{}\n")
    with pytest.raises(InputError, match="no journal"):
        resume(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        fuzz(planted(replay=True), corpus=tmp_path / "absent")


def test_settings_that_name_nothing() -> None:
    with pytest.raises(UsageError, match="there is no pass 'clenup'"):
        fuzz(planted(passes=("clenup",)))
    with pytest.raises(UsageError, match="no function"):
        fuzz(planted(generator="graphopt.fuzz:absent"))


def test_workers_that_do_not_start() -> None:
    executor = LocalExecutor(planted(oracles="absent"), 1)
    with pytest.raises(InternalError, match="did not start"):
        list(Campaign(planted(oracles="absent")).run(executor).rows)


# -- given cases ---------------------------------------------------------------------------------------


def issue(folder: Path, name: str, script: str, *signatures: str) -> KnownIssue:
    (folder / name).mkdir()
    (folder / name / "repro.py").write_text(script)
    return KnownIssue(name, "torch", {}, "", "", None, signatures, folder / name)


def test_the_corpus_runs_first_and_known_issues_are_no_findings(tmp_path: Path) -> None:
    disliked = next(
        case
        for case in (plants.generate(0, i, ()) for i in range(200) if i != 13)
        if case.graph.operators == ("aten.tanh.default", "aten.neg.default")
    )
    fine = plants.generate(0, 0, ())
    issues = (
        issue(tmp_path, "torch-there", "print('still there: x'); raise SystemExit(1)", "cleanup:no-neg.*"),
        issue(tmp_path, "torch-gone", "print('gone')"),
        issue(tmp_path, "torch-broken", "raise ValueError('broken')"),
    )
    settings = planted(cases=0, replay=True, known_scripts=True, backends=())
    executor = LocalExecutor(settings, 1)
    try:
        campaign = Campaign(settings, [NamedCase("one", fine), NamedCase("two", disliked)], issues)
        report = campaign.run(executor)
    finally:
        executor.close()
    assert [(r.stream, r.label, r.status) for r in report.rows] == [
        ("corpus", "one", "ok"),
        ("corpus", "two", "found"),
        ("known", "torch-there", "ok"),
        ("known", "torch-gone", "gone"),
        ("known", "torch-broken", "found"),
    ]
    known, broken = report.findings
    assert known.status == "known" and known.issue == "torch-there"
    assert report.new == (broken,) and "ValueError: broken" in broken.problem.message
    assert report.fixed == ("torch-gone",)


def test_a_corpus_with_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"schema": "else"}')
    with pytest.raises(InputError, match="holds no case"):
        read_corpus(tmp_path)
