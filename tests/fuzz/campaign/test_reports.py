"""What services for continuous integration are given: SARIF, JUnit, CSV, and the page about coverage."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graphopt.errors import FindingError
from graphopt.fuzz.campaign import CampaignReport, ReportedFinding, profile_settings
from graphopt.fuzz.campaign.junit import junit
from graphopt.fuzz.campaign.report import idle_problems, report_of
from graphopt.fuzz.campaign.sarif import sarif
from graphopt.fuzz.campaign.status import status_csv
from graphopt.fuzz.campaign.tally import Row, Tally
from graphopt.fuzz.cases import FuzzCase
from graphopt.fuzz.coverage import SECTIONS, Behaviour
from graphopt.fuzz.coverage.collect import of_case, value_bin
from graphopt.fuzz.coverage.page import page
from graphopt.fuzz.coverage.universe import Universe
from graphopt.fuzz.findings import Problem, Signature
from graphopt.fuzz.graphs import Call, Graph, Leaf, Ref, build_program
from graphopt.passmanager.manager import PassManager

ROOT = Path(__file__).parents[3]
UNIVERSE = Universe(("dead-code", "fuse-norms"), ("add-zero", "relu6"))
GRAPH = Graph(
    (Leaf("x", (2, 3)),),
    (
        Call("a", "aten.add.Tensor", (Ref("x"), 0)),
        Call("b", "aten.transpose.int", (Ref("a"), 0, -1)),
    ),
    ("b",),
)
CASE = FuzzCase(GRAPH, label="7/3")


def behaviour() -> Behaviour:
    found = Behaviour()
    found.add("rules", "add-zero", "fired", "", times=3)
    found.add("rules", "relu6", "refused", 'it is "<b>" & more')
    found.add("passes", "dead-code", "changed")
    found.add("operators", "aten.add.Tensor", "float32", 2, times=12)
    return found


@pytest.fixture(scope="module")
def report() -> CampaignReport:
    """Two findings, of which one is known, and a control character in a message."""
    wrong = Problem(Signature("cleanup", "contract", "value", "aten.add.Tensor"), "off by 0.5\x07")
    known = Problem(Signature("codegen", "compiled-cpu", "exception", "no such thing"), "TVM says no")
    seconds = {"generate": 0.25, "contract": 0.5}
    tally = Tally(behaviour=behaviour())
    tally.rows = [
        Row((2, 3), "7/3", "passes", "found", (str(wrong.signature),), seconds),
        Row((2, 0), "7/0", "passes", "ok", (), {"generate": 0.125}),
        Row((3, 0), "7/0", "backends", "found", (str(known.signature),), {"compiled-cpu": 2.0}),
        Row((0, 0), "roll", "corpus", "ok", (), {"build": 0.1}),
    ]
    findings = [
        ReportedFinding(wrong, "new", ("7/3",), "contract", CASE, folder="findings/000-x"),
        ReportedFinding(known, "known", ("7/0",), "compiled-cpu", CASE, issue="tvm-add-alpha"),
    ]
    settings = profile_settings("pr", seed=7)
    return report_of(settings, tally, findings, UNIVERSE, fixed=(), seconds=3.0, interrupted=False)


def test_sarif_has_what_the_standard_asks_for(report: CampaignReport) -> None:
    data = json.loads(json.dumps(sarif(report)))
    assert data["version"] == "2.1.0" and data["$schema"].endswith("sarif-2.1.0.json")
    (run,) = data["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] and len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    assert len(run["results"]) == 2
    for result in run["results"]:
        assert result["message"]["text"]
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        place = result["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert not place["artifactLocation"]["uri"].startswith("/")
        assert result["partialFingerprints"]["signature/v1"]
    first, second = run["results"]
    assert first["level"] == "error" and "suppressions" not in first
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith(
        "cleanup/pipeline.py"
    )
    assert second["suppressions"] == [{"kind": "external", "justification": "known issue tvm-add-alpha"}]


@pytest.mark.checkout
def test_the_places_of_sarif_are_files_of_the_repository(report: CampaignReport) -> None:
    for result in sarif(report)["runs"][0]["results"]:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert (ROOT / uri).is_file()


def test_junit(report: CampaignReport) -> None:
    root = ElementTree.fromstring(junit(report))
    assert root.attrib | {"time": ""} == {
        "name": "graphopt fuzz",
        "time": "",
        "tests": "5",
        "failures": "1",
        "skipped": "1",
    }
    failure = next(root.iter("failure"))
    assert failure.get("message") == "off by 0.5?" and "findings/000-x" in (failure.text or "")
    assert next(root.iter("skipped")).get("message") == "known issue tvm-add-alpha"
    names = {suite.get("name"): len(suite) for suite in root}
    assert names == {"graphopt.fuzz.corpus": 1, "graphopt.fuzz.passes": 2, "graphopt.fuzz.backends": 2}


def test_status(report: CampaignReport) -> None:
    rows = list(csv.DictReader(io.StringIO(status_csv(report))))
    assert [row["case"] for row in rows] == ["roll", "7/0", "7/3", "7/0"]
    assert rows[2]["seconds"] == "0.7500" and rows[2]["contract"] == "0.5000" and rows[1]["contract"] == ""
    assert rows[2]["signatures"] == "cleanup:contract:value:aten.add.Tensor"


def test_only_what_is_new_is_an_error(report: CampaignReport) -> None:
    with pytest.raises(FindingError, match="found 1 problem:\n  cleanup:contract") as caught:
        report.raise_if_found()
    assert caught.value.exit_status == 7 and "reproducer" in (caught.value.hint or "")


# -- coverage ------------------------------------------------------------------------------------------


def test_idle_passes_and_rules_are_findings() -> None:
    found = [str(p.signature) for p in idle_problems(UNIVERSE, behaviour())]
    assert found == ["fuse-norms:firings:coverage:pass", "relu6:firings:coverage:rule"]


def test_counts_add_up_in_any_order_and_survive_json() -> None:
    one, other = behaviour(), Behaviour()
    other.add("rules", "add-zero", "fired", "")
    other.merge(one)
    one.add("rules", "add-zero", "fired", "")
    assert one.to_dict() == other.to_dict()
    assert Behaviour.from_dict(json.loads(json.dumps(one.to_dict()))).counts == one.counts
    with pytest.raises(ValueError, match="keys"):
        one.add("edges", "a")


class Tables(HTMLParser):
    """Collects ids, attributes that load something, and the text of cells; and that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids.add(named.get("id") or "")
        self.loads += [v or "" for k, v in attrs if k in ("src", "href") and not (v or "").startswith("#")]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_the_page_needs_no_other_file(report: CampaignReport) -> None:
    parser = Tables()
    text = page(report.behaviour, report.universe, report.page_facts())
    parser.feed(text)
    assert parser.open == [] and parser.loads == [] and "url(" not in text and "@import" not in text
    assert parser.ids >= {f"table-{section}" for section in SECTIONS} | {"idle"}
    assert 'it is "<b>" & more' in parser.cells and "12" in parser.cells
    assert "1 / 2" in text and "<code>fuse-norms</code>" in text


def test_what_a_case_exercises() -> None:
    program = build_program(GRAPH)
    result = PassManager("cleanup", verify="off").run(program)
    found = of_case(CASE, program, result.records)
    assert found.counts["operators"] == {
        ("aten.add.Tensor", "float32", "2"): 1,
        ("aten.transpose.int", "float32", "2"): 1,
    }
    assert ("aten.add.Tensor", "aten.transpose.int") in found.counts["edges"]
    assert found.counts["attributes"].keys() == {
        ("aten.add.Tensor", "other", "0"),
        ("aten.transpose.int", "dim0", "0"),
        ("aten.transpose.int", "dim1", "-1"),
    }
    assert ("rules", ("add-zero", "fired", "")) in [(s, k) for s in found.counts for k in found.counts[s]]
    assert ("remove-identities", "changed") in found.counts["passes"]
    assert ("remove-identities", "canonical-shapes", "both changed") in found.counts["pass_pairs"]
    assert (
        Universe.of().passes == tuple(sorted(set(Universe.of().passes)))
        and "cleanup" not in Universe.of().passes
    )


@pytest.mark.parametrize(
    ("value", "bin"),
    [(-9, "<-1"), (-1, "-1"), (2, "2-3"), (127, "64-127"), (0.0, "0"), (2.5, ">1"), (float("inf"), "inf")],
)
def test_bins_of_attributes(value: float, bin: str) -> None:
    assert value_bin(value) == bin


# -- the workflow file ---------------------------------------------------------------------------------


@pytest.mark.checkout
def test_the_workflow_file() -> None:
    import yaml

    from graphopt.cli.fuzz_command import command
    from graphopt.fuzz.campaign import PROFILES
    from graphopt.workflows.fuzz import REPORTS

    text = (ROOT / "docs" / "examples" / "graphopt-fuzz.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow[True].keys() == {
        "pull_request",
        "schedule",
        "workflow_dispatch",
    }  # YAML reads `on` as true
    assert workflow["permissions"]["security-events"] == "write"
    steps = {step.get("name", step.get("uses")): step for step in workflow["jobs"]["fuzz"]["steps"]}
    line = steps["Fuzz"]["run"].split()
    flags = {name for option in command.params for name in option.opts}
    assert line[:2] == ["graphopt", "fuzz"] and {word for word in line if word.startswith("--")} <= flags
    assert all(f"'{profile}'" in steps["Fuzz"]["env"]["PROFILE"] for profile in PROFILES)
    folder = line[line.index("--out") + 1]
    uploaded = steps["Upload findings to code scanning"]["with"]["sarif_file"]
    assert uploaded == f"{folder}/findings.sarif" and "findings.sarif" in REPORTS
    assert steps["Keep reports and reproducers"]["with"]["path"] == folder
