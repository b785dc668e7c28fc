"""``graphopt fuzz``: a campaign of generated graphs against passes and code generators."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.files import check_output_folder, write_atomically

if TYPE_CHECKING:
    from graphopt.fuzz.campaign import CampaignReport, Settings, Watcher
    from graphopt.fuzz.campaign.corpus import NamedCase
    from graphopt.fuzz.campaign.local import Executor
    from graphopt.fuzz.campaign.records import ChunkResult

REPORTS = ("report.json", "status.csv", "junit.xml", "findings.sarif", "coverage.json", "coverage.html")
"""The files of a campaign's folder, beside its journal and the folders of its findings."""


def fuzz(
    settings: Settings,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    corpus: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher | None = None,
) -> CampaignReport:
    """Runs a campaign.

    Args:
        settings: what to do; :func:`graphopt.fuzz.campaign.profile_settings` makes them.
        jobs: worker processes; default: one a core.  What is found does not depend on it.
        scheduler: address of a Dask scheduler whose workers do the work, or ``local:N`` for a cluster of
            ``N`` workers on this machine; default: no Dask.
        corpus: folder of cases to run first; default: the one that comes with graphopt.
        out: new folder for the reports, the reproducers of findings, and what :func:`resume` needs.
        watcher: told how it goes.

    An interrupt (Ctrl-C) ends the work, not the call: the report says so.

    Raises:
        UsageError: a pass or a backend does not exist.
        InputError: GO-3001, ``out`` is not empty or cannot be written, ``corpus`` is missing; GO-3000, a
            file of the corpus is none.
        TargetError: GO-6003, the cluster is not available.
    """
    from graphopt.fuzz.campaign.corpus import corpus_folder, read_corpus

    cases: Sequence[NamedCase] = ()
    if settings.replay:
        cases = read_corpus(corpus_folder() if corpus is None else corpus)
    folder = None if out is None else check_output_folder(out)
    return _run(settings, cases, (), jobs, scheduler, folder, watcher)


def resume(
    folder: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    watcher: Watcher | None = None,
) -> CampaignReport:
    """Goes on with a campaign that was interrupted, from the folder that it left.

    Raises:
        InputError: GO-3001, there is none; GO-3000, what it left is damaged.
        TargetError: GO-6003, the cluster is not available.
    """
    from graphopt.fuzz.campaign.journal import read_journal

    settings, cases, done = read_journal(Path(folder))
    return _run(settings, cases, done, jobs, scheduler, Path(folder), watcher)


def _run(
    settings: Settings,
    cases: Sequence[NamedCase],
    done: Sequence[ChunkResult],
    jobs: int | None,
    scheduler: str | None,
    folder: Path | None,
    watcher: Watcher | None,
) -> CampaignReport:
    from graphopt.fuzz.campaign import Campaign, Watcher
    from graphopt.fuzz.campaign.findings import reduce_findings
    from graphopt.fuzz.campaign.journal import Journal
    from graphopt.fuzz.campaign.sources import Sources
    from graphopt.fuzz.known import known_issues

    Sources(settings).check()
    watcher = watcher or Watcher()
    with _executor(settings, jobs, scheduler) as (executor, where), contextlib.ExitStack() as stack:
        journal = None
        if folder is not None:
            folder.mkdir(exist_ok=True)
            journal = stack.enter_context(contextlib.closing(Journal(folder, settings, cases)))
        watcher.started(settings, where)
        report = Campaign(settings, cases, known_issues(), journal, done, watcher).run(executor)
        if folder is not None and not report.interrupted:
            report = reduce_findings(report, executor, folder, watcher)
    if folder is not None:
        for name in REPORTS:
            write_report(report, folder / name)
    return report


def write_report(report: CampaignReport, path: str | os.PathLike[str], kind: str | None = None) -> None:
    """Writes one of :data:`REPORTS`.

    Args:
        kind: which one; default: the file's own name.

    Raises:
        InputError: GO-3001, it cannot be written.
    """
    write_atomically(path, _contents(report, kind or Path(path).name))


def _contents(report: CampaignReport, kind: str) -> bytes:
    from graphopt.fuzz.campaign.junit import junit
    from graphopt.fuzz.campaign.sarif import sarif
    from graphopt.fuzz.campaign.status import status_csv
    from graphopt.fuzz.coverage.page import page

    match kind:
        case "report.json":
            return _json(report.to_dict())
        case "status.csv":
            return status_csv(report).encode()
        case "junit.xml":
            return junit(report)
        case "findings.sarif":
            return _json(sarif(report))
        case "coverage.json":
            return _json(report.coverage_dict())
        case "coverage.html":
            return page(report.behaviour, report.universe, report.page_facts()).encode()
    raise ValueError(f"there is no report {kind!r}")


def _json(data: object) -> bytes:
    return (json.dumps(data, indent=1, allow_nan=False, default=str) + "\n").encode()


@contextlib.contextmanager
def _executor(settings: Settings, jobs: int | None, scheduler: str | None) -> Iterator[tuple[Executor, str]]:
    """Who does the work, and in words; it ends with the block."""
    if scheduler is not None:
        from graphopt.fuzz.campaign.cluster import ClusterExecutor

        executor: Executor = ClusterExecutor(settings, scheduler)
        where = f"on the cluster at {scheduler}"
    else:
        from graphopt.fuzz.campaign.local import LocalExecutor

        number = jobs or os.cpu_count() or 1
        executor = LocalExecutor(settings, number)
        where = f"{number} worker{'s' if number > 1 else ''}"
    with contextlib.closing(executor):
        yield executor, where
