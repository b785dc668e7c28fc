"""A campaign as JUnit XML, which most services for continuous integration show.

A test suite a stream of cases.  Cases that pass are counted, but only those of the corpus are listed one
by one; a finding is a failing test that is named by its signature, so that a service can follow it from run
to run.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from graphopt.fuzz.campaign.plan import STREAMS
from graphopt.fuzz.campaign.report import CampaignReport, ReportedFinding

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: CampaignReport) -> bytes:
    """The XML document."""
    suites = ElementTree.Element("testsuites", name="graphopt fuzz", time=f"{report.seconds:.3f}")
    totals = {"tests": 0, "failures": 0, "skipped": 0}
    for stream in (*STREAMS, "coverage"):
        suite = _suite(report, stream)
        if len(suite):
            suites.append(suite)
            for key in totals:
                totals[key] += int(suite.get(key, "0"))
    for key, value in totals.items():
        suites.set(key, str(value))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"


def _suite(report: CampaignReport, stream: str) -> ElementTree.Element:
    rows = [row for row in report.rows if row.stream == stream]
    suite = ElementTree.Element("testsuite", name=f"graphopt.fuzz.{stream}")
    mine = [f for f in report.findings if _stream(f, report) == stream]
    fine = [row for row in rows if row.status == "ok"]
    if stream in ("corpus", "known"):
        for row in fine:
            seconds = sum(row.seconds.values())
            _case(suite, stream, row.label, seconds)
    elif rows:
        seconds = sum(sum(row.seconds.values()) for row in fine)
        _case(suite, stream, f"{len(fine)} cases", seconds)
    for finding in mine:
        _failure(suite, stream, finding)
    failures = sum(f.status == "new" for f in mine)
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("errors", "0")
    suite.set("skipped", str(len(mine) - failures))
    return suite


def _stream(finding: ReportedFinding, report: CampaignReport) -> str:
    """Where the first case of a finding comes from."""
    if not finding.labels:
        return "coverage"
    signature = str(finding.signature)
    return next(row.stream for row in report.rows if signature in row.signatures)


def _case(suite: ElementTree.Element, stream: str, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=f"graphopt.fuzz.{stream}", name=_clean(name), time=f"{seconds:.3f}"
    )


def _failure(suite: ElementTree.Element, stream: str, finding: ReportedFinding) -> None:
    case = _case(suite, stream, str(finding.signature), 0.0)
    if finding.status == "known":
        ElementTree.SubElement(case, "skipped", message=_clean(f"known issue {finding.issue}"))
        return
    failure = ElementTree.SubElement(
        case, "failure", message=_clean(finding.problem.message), type=finding.signature.kind
    )
    lines = [f"{len(finding.labels)} cases: {', '.join(finding.labels[:10])}"]
    if finding.small is not None:
        lines += [f"passes: {', '.join(finding.small.passes)}", str(finding.small.graph)]
    if finding.folder:
        lines.append(f"reproducer: {finding.folder}")
    failure.text = _clean("\n".join(lines))


def _clean(text: str) -> str:
    """Without the characters that XML has no way to write."""
    return _NOT_IN_XML.sub("?", text)
