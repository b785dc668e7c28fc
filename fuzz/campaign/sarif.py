"""A campaign as SARIF 2.1.0 (OASIS standard), which code scanning services show beside the source.

A rule is an oracle and a kind of problem.  The location of a result is the source of the pass at fault,
where there is one; the fingerprint is the signature, so that a service knows the same problem again.
"""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError
from graphopt.fuzz.campaign.report import CampaignReport, ReportedFinding
from graphopt.passmanager.registry import get_pass

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FALLBACK = "fuzz/campaign/runner.py"
"""Where services that insist on a location show what lies in no pass."""


def sarif(report: CampaignReport) -> dict[str, Any]:
    """The document, JSON-able."""
    rules = sorted({_rule(f) for f in report.findings})
    driver = {
        "name": "graphopt fuzz",
        "semanticVersion": report.versions.get("graphopt", "0.0.0"),
        "rules": [
            {
                "id": rule,
                "shortDescription": {"text": f"oracle {rule.partition('/')[0]}: {rule.partition('/')[2]}"},
            }
            for rule in rules
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "utf16CodeUnits",
        "invocations": [{"executionSuccessful": not report.interrupted}],
        "results": [_result(f, rules) for f in report.findings],
        "properties": {"seed": report.settings.seed, "cases": report.counts()},
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(finding: ReportedFinding) -> str:
    return f"{finding.signature.oracle}/{finding.signature.kind}"


def _result(finding: ReportedFinding, rules: list[str]) -> dict[str, Any]:
    signature = str(finding.signature)
    result: dict[str, Any] = {
        "ruleId": _rule(finding),
        "ruleIndex": rules.index(_rule(finding)),
        "level": "error" if finding.status == "new" else "note",
        "message": {"text": _message(finding)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _source(finding.signature.component)},
                    "region": {"startLine": 1},
                }
            }
        ],
        "partialFingerprints": {"signature/v1": hashlib.sha256(signature.encode()).hexdigest()[:32]},
        "properties": {"signature": signature, "count": len(finding.labels)},
    }
    if finding.status == "known":
        result["suppressions"] = [{"kind": "external", "justification": f"known issue {finding.issue}"}]
    return result


def _message(finding: ReportedFinding) -> str:
    cases = f" Cases: {', '.join(finding.labels[:5])}." if finding.labels else ""
    graph = f"\n{finding.small.graph}" if finding.small is not None else ""
    return f"{finding.signature}: {finding.problem.message}.{cases}{graph}"


def _source(component: str) -> str:
    """The file of a component, relative to the repository; for several passes, that of the first."""
    import graphopt

    try:
        file = inspect.getsourcefile(get_pass(component.partition("+")[0]))
    except (UsageError, TypeError):
        return _FALLBACK
    package = Path(graphopt.__file__).resolve().parent
    for root in (package.parent, package):
        if file is not None and Path(file).resolve().is_relative_to(root):
            return Path(file).resolve().relative_to(root).as_posix()
    return _FALLBACK
