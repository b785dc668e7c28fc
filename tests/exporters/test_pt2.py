"""Programs survive the way through a .pt2 file."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from graphopt._torch import statically_known_true
from graphopt.errors import InputError
from graphopt.exporters.pt2 import FORMAT_VERSION, load_pt2, save_pt2
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.level import Level
from graphopt.ir.program import Program
from graphopt.ir.provenance import origin
from tests.exporters.archives import rewrite_member

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning")


def test_round_trip_is_exact(program: Program, inputs: list[torch.Tensor], tmp_path: Path) -> None:
    save_pt2(program, tmp_path / "model.pt2")
    again = load_pt2(tmp_path / "model.pt2")
    assert again.structural_hash() == program.structural_hash()
    assert again.signature == program.signature
    assert again.symbols == program.symbols
    assert again.level == program.level
    assert again.text(layers=True) == program.text(layers=True)
    assert all(torch.equal(a, b) for a, b in zip(again(*inputs), program(*inputs), strict=True))


def test_provenance_and_origins_are_kept(rewritten: Program, tmp_path: Path) -> None:
    save_pt2(rewritten, tmp_path / "model.pt2")
    again = load_pt2(tmp_path / "model.pt2")
    assert again.provenance.to_list() == rewritten.provenance.to_list() != []
    before = {node.name: origin(node) for node in rewritten.graph.nodes}
    assert {node.name: origin(node) for node in again.graph.nodes} == before
    assert again.level is Level.GRAPHOPT
    assert again.graph.find_nodes(op="call_function", target=torch.ops.graphopt.hard_swish.default)


def test_tied_weights_stay_one_tensor(tmp_path: Path) -> None:
    class Shares(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(4, 3))
            self.register_buffer("row", self.table.detach()[1])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.table.T + (x * self.row).sum(-1, keepdim=True)

    program = capture_torch(Shares().eval(), (torch.randn(2, 3),))
    save_pt2(program, tmp_path / "model.pt2")
    again = load_pt2(tmp_path / "model.pt2")
    table, row = again.constant("table"), again.constant("row")
    assert isinstance(table, torch.nn.Parameter)
    assert row.untyped_storage().data_ptr() == table.untyped_storage().data_ptr()
    assert torch.equal(row, table[1])


def test_torch_opens_the_file(program: Program, inputs: list[torch.Tensor], tmp_path: Path) -> None:
    save_pt2(program, tmp_path / "model.pt2")
    exported = torch.export.load(str(tmp_path / "model.pt2"))
    results = exported.module()(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(results, program(*inputs), strict=True))


def test_a_file_of_torch_export_loads(tied: Program, tmp_path: Path) -> None:
    class Nested(torch.nn.Module):
        def forward(self, pair: dict[str, torch.Tensor], factor: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": pair["a"] + pair["b"] * factor, "a": pair["a"] * 2}

    rows = {0: torch.export.Dim("rows")}
    exported = torch.export.export(
        Nested(),
        ({"a": torch.ones(3, 2), "b": torch.ones(3, 2)}, torch.ones(2)),
        dynamic_shapes=({"a": rows, "b": rows}, None),
    )
    torch.export.save(exported, tmp_path / "foreign.pt2")
    program = load_pt2(tmp_path / "foreign.pt2")
    assert [spec.name for spec in program.signature.inputs] == ["pair_a", "pair_b", "factor"]
    a, b, factor = torch.randn(5, 2), torch.randn(5, 2), torch.randn(2)
    results = program(a, b, factor)
    assert torch.equal(results[0], a + b * factor) and torch.equal(results[1], a * 2)


def test_loading_maps_weights_instead_of_reading_them(tmp_path: Path) -> None:
    class Large(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(64, 1024, 1024))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.weight[0, 0]

    path = tmp_path / "large.pt2"
    save_pt2(capture_torch(Large().eval(), (torch.ones(1024),)), path)
    script = f"""
from graphopt.exporters.pt2 import load_pt2
load_pt2({str(path)!r})
def anonymous():
    return next(int(l.split()[1]) for l in open("/proc/self/smaps_rollup") if l.startswith("Anonymous"))
before = anonymous()
program = load_pt2({str(path)!r})
print(anonymous() - before)
"""
    grown = int(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    )
    assert grown < 64 * 1024, f"{grown} KiB of memory for 256 MiB of weights"


def test_a_newer_format_is_refused(tied: Program, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    save_pt2(tied, path)

    def newer(text: bytes) -> bytes:
        return json.dumps({**json.loads(text), "format": FORMAT_VERSION + 1}).encode()

    rewrite_member(path, "extra/graphopt.json", newer)
    with pytest.raises(InputError, match="newer format"):
        load_pt2(path)


def test_facts_that_contradict_the_graph_are_refused(tied: Program, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    save_pt2(tied, path)

    def other_dtype(text: bytes) -> bytes:
        facts = json.loads(text)
        facts["signature"]["inputs"][0]["dtype"] = "int64"
        return json.dumps(facts).encode()

    rewrite_member(path, "extra/graphopt.json", other_dtype)
    with pytest.raises(InputError) as caught:
        load_pt2(path)
    assert caught.value.code == "GO-3003" and "int64" in caught.value.message


def test_the_archive_names_its_format(tied: Program, tmp_path: Path) -> None:
    save_pt2(tied, tmp_path / "model.pt2")
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        [member] = [name for name in archive.namelist() if name.endswith("extra/graphopt.json")]
        facts = json.loads(archive.read(member))
    assert facts["format"] == FORMAT_VERSION
    assert list(facts["signature"]["dims"]) == ["batch", "height", "width"]


def test_loading_bounds_no_dimension(tmp_path: Path) -> None:
    """torch picks convolution kernels by the batch of the example; that must not become a bound."""

    class Depthwise(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(8, 8, 3, groups=8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    program = capture_torch(
        Depthwise().eval(), (torch.randn(2, 8, 9, 9),), dynamic_shapes=({0: "batch", 3: "width"},)
    )
    save_pt2(program, tmp_path / "model.pt2")
    batch = load_pt2(tmp_path / "model.pt2").input_nodes[0].meta["val"].shape[0]
    assert not any(statically_known_true(batch < size) for size in range(100))
