"""``graphopt fuzz``."""

from __future__ import annotations

from typing import Any

import click

from graphopt.cli.options import NewFile, json_option, quiet_option
from graphopt.errors import EXIT_INTERRUPTED, UsageError
from graphopt.files import check_output_folder

_OPTIONS = {
    "passes": "--passes",
    "backends": "--backends",
    "cases": "--cases",
    "seconds": "--seconds",
    "seed": "--seed",
    "only": "--only",
    "corpus": "--corpus",
    "profile": "--profile",
    "backend_every": "--backend-every",
    "timeout": "--timeout",
    "require_firings": "--require-firings",
    "out": "--out",
}
"""Options that a campaign that is resumed has already."""


@click.command(name="fuzz")
@click.option(
    "--profile",
    metavar="NAME",
    help="Where values come from that are not given: 'pr' counts cases, 'nightly' hours. Default: pr.",
)
@click.option(
    "--passes",
    metavar="SPEC",
    help="Passes to test, alone and one after another. Default: all of 'cleanup'.",
)
@click.option(
    "--backends",
    metavar="NAMES",
    help="Code generators and runtimes to test every case on, as in 'cpu,ort'; '' is none. "
    "Default: the profile's, on some of the cases.",
)
@click.option(
    "--backend-every", type=click.IntRange(min=1), help="Only every so many-th case runs on backends."
)
@click.option("--cases", type=click.IntRange(min=0), help="How many cases to generate.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Begin no cases after so long. With --cases, whichever ends first.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the whole campaign. Default: 0.")
@click.option(
    "--only",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="INDEX",
    help="Only this case. May be repeated.",
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds that a case may take.")
@click.option(
    "--corpus",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Cases to run first. Default: those that come with graphopt.",
)
@click.option(
    "--replay/--no-replay", default=None, help="Whether to run the corpus and the known issues first."
)
@click.option(
    "--require-firings", is_flag=True, default=None, help="A pass or rule that never fired is a finding."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes. Default: one a core.")
@click.option(
    "--scheduler",
    metavar="ADDRESS|local:N",
    help="A Dask scheduler whose workers do the work, or a cluster of N workers here.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="New folder for all reports, and for a reproducer of each finding, made small.",
)
@click.option(
    "--resume",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Go on with the campaign that was interrupted with this --out.",
)
@json_option
@click.option("--junit", type=NewFile(), metavar="FILE", help="Write the result as JUnit XML.")
@click.option("--sarif", type=NewFile(), metavar="FILE", help="Write the findings as SARIF 2.1.0.")
@click.option("--html", type=NewFile(), metavar="FILE", help="Write the coverage as a page.")
@quiet_option
def command(
    jobs: int | None,
    scheduler: str | None,
    resume: str | None,
    json_path: str | None,
    junit: str | None,
    sarif: str | None,
    html: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Search for wrong passes and wrong code with generated graphs.

    The same seed and number of cases find the same, whatever --jobs and --scheduler are.  Exit status 7
    when something was found that is no known issue.  Ctrl-C ends the search, reports what was found so far
    and exits with status 130.
    """
    corpus, out = options["corpus"], options["out"]
    if resume is not None:
        given = [flag for key, flag in _OPTIONS.items() if options[key] not in (None, ())]
        if given:
            raise UsageError(f"--resume has {given[0]} from its folder; leave it out")
    elif out is not None:
        check_output_folder(out)
    from graphopt.cli.output import write_json
    from graphopt.cli.tables import console, findings_table
    from graphopt.fuzz.campaign.progress import progress
    from graphopt.workflows import fuzz as work

    with progress(quiet=quiet) as watcher:
        if resume is not None:
            report = work.resume(resume, jobs=jobs, scheduler=scheduler, watcher=watcher)
        else:
            settings = _settings(options)
            report = work.fuzz(
                settings, jobs=jobs, scheduler=scheduler, corpus=corpus, out=out, watcher=watcher
            )
    for path, kind in ((junit, "junit.xml"), (sarif, "findings.sarif"), (html, "coverage.html")):
        if path is not None:
            work.write_report(report, path, kind)
    if json_path:
        write_json(report.to_dict(), json_path)
    if json_path != "-":
        screen = console()
        if report.findings:
            screen.print(findings_table(report.findings))
        for name in report.fixed:
            screen.print(f"known issue {name} does not show any more: fixed upstream?")
        screen.print(report.coverage_line(), soft_wrap=True)
        screen.print(report.summary(), soft_wrap=True)
    if report.interrupted:
        kept = out or resume
        again = f"; 'graphopt fuzz --resume {kept}' goes on" if kept else ""
        click.echo(f"interrupted; this is what was found until then{again}", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED)
    report.raise_if_found()


def _settings(options: dict[str, Any]) -> Any:
    from graphopt.fuzz.campaign import profile_settings
    from graphopt.passmanager.registry import build_pipeline

    changes = {k: v for k, v in options.items() if v not in (None, ()) and k not in ("corpus", "out")}
    if (passes := changes.pop("passes", None)) is not None:
        changes["passes"] = tuple(str(p) for p in build_pipeline(passes))
    if (backends := changes.pop("backends", None)) is not None:
        changes["backends"] = tuple(name.strip() for name in backends.split(",") if name.strip())
        changes.setdefault("backend_every", 1)
    return profile_settings(changes.pop("profile", "pr"), **changes)
