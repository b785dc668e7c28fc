"""Scripts that show known issues, in campaigns: whether they still do."""

from __future__ import annotations

from graphopt.fuzz.campaign.records import CaseRecord
from graphopt.fuzz.findings import Problem, Signature, normalised
from graphopt.fuzz.known.scripts import run_script


def script_record(index: int, name: str, source: str, seconds: float) -> CaseRecord:
    """Runs the script of a known issue.

    Args:
        index: its place in the list of issues.
        name: of the issue.
        source: of the script.
        seconds: that it may take.

    Returns:
        ``ok`` where it shows the issue, ``gone`` where it does not any more, and ``found`` where it does not
        run.
    """
    result = run_script(source, seconds)
    elapsed = {"script": result.seconds}
    if result.status != "broken":
        return CaseRecord("known", index, name, "gone" if result.status == "gone" else "ok", elapsed)
    signature = Signature("fuzzer", "script", "exception", name)
    problem = Problem(signature, f"{name}: {normalised(result.detail)}")
    return CaseRecord("known", index, name, "found", elapsed, (problem,), ("",))
