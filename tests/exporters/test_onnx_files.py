"""ONNX files: names, dimensions, origins, external data, and that a failure leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from graphopt.errors import InputError
from graphopt.exporters.onnx import export_verified, to_onnx
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify


def _dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_small_models_agree_at_other_sizes(program: Program, tmp_path: Path) -> None:
    to_onnx(program, tmp_path / "model.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "model.onnx"), draws=3, runs=4).raise_if_failed()


def test_names_and_dimensions_are_the_signature_s(program: Program, tmp_path: Path) -> None:
    to_onnx(program, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    for values, specs in ((graph.input, program.signature.inputs), (graph.output, program.signature.outputs)):
        assert [(v.name, _dims(v)) for v in values] == [(s.name, list(s.shape)) for s in specs]
    symbols = {d for v in graph.value_info for d in _dims(v) if isinstance(d, str)}
    assert not any(symbol in text.split("*") for text in symbols for symbol in program.symbols)


def test_nodes_say_where_they_come_from(rewritten: Program, tmp_path: Path) -> None:
    to_onnx(rewritten, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert (model.producer_name, model.producer_version != "") == ("graphopt", True)
    facts = {n.op_type: {p.key: p.value for p in n.metadata_props} for n in model.graph.node}
    assert facts["Conv"]["graphopt.layers"] == "conv"
    assert facts["HardSwish"]["graphopt.made_by"] == "fuse/hard-swish"
    assert b"site-packages" not in model.SerializeToString(), "paths of this machine are in the file"


def test_tied_weights_are_stored_once(tied: Program, tmp_path: Path) -> None:
    to_onnx(tied, tmp_path / "model.onnx")
    shapes = [tuple(t.dims) for t in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert shapes.count((8, 8)) == 1


def test_interfaces_that_share_values(tmp_path: Path) -> None:
    """An input, a weight and one value twice as outputs; names that torch.onnx uses itself."""

    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.randn(3))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            y = x + self.weight
            z = y * 2
            return x, self.weight, z, z, y

    names = ["mul", "add", "copy", "weight", "twice", "again", "sum"]
    program = capture_torch(
        Shares().eval(), (torch.randn(2, 3),), input_names=names[1:2], output_names=names[2:]
    )
    to_onnx(program, tmp_path / "model.onnx")
    runner = OnnxRuntimeRunner(tmp_path / "model.onnx")
    assert (runner.input_names, runner.output_names) == (names[1:2], names[2:])
    verify(program, runner, draws=1, runs=2).raise_if_failed()


@pytest.fixture(scope="module")
def wide() -> Program:
    torch.manual_seed(0)
    return capture_torch(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).eval(), (torch.randn(2, 64),)
    )


@pytest.mark.parametrize(
    ("external", "outside"), [(True, True), (1000, True), (10**6, False), ("auto", False)]
)
def test_where_weights_go(wide: Program, tmp_path: Path, external: bool | int, outside: bool) -> None:
    to_onnx(wide, tmp_path / "model.onnx", external_data=external)
    assert (tmp_path / "model.onnx.data").exists() == outside
    assert ((tmp_path / "model.onnx").stat().st_size < 10_000) == outside


def test_no_data_file_without_data(tied: Program, tmp_path: Path) -> None:
    to_onnx(tied, tmp_path / "model.onnx", external_data=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_external_data_is_aligned_and_complete(wide: Program, tmp_path: Path) -> None:
    to_onnx(wide, tmp_path / "model.onnx", external_data=True)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    stored = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    entries = [{e.key: e.value for e in t.external_data} for t in stored]
    assert {e["location"] for e in entries} == {"model.onnx.data"}
    assert all(int(e["offset"]) % 4096 == 0 for e in entries)
    assert sum(int(e["length"]) for e in entries) == (64 * 64 + 64 * 8) * 4
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    verify(wide, OnnxRuntimeRunner(tmp_path / "model.onnx"), draws=1, runs=2).raise_if_failed()
    # The same program exported again finds its weights unchanged.
    to_onnx(wide, tmp_path / "inside.onnx", external_data=False)
    assert not (tmp_path / "inside.onnx.data").exists()
    ort.InferenceSession(str(tmp_path / "inside.onnx"), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("external", [True, False])
def test_verification_sees_the_whole_model_before_it_is_published(
    wide: Program, tmp_path: Path, external: bool
) -> None:
    def accept(path: Path) -> None:
        assert not (tmp_path / "model.onnx").exists()
        verify(wide, OnnxRuntimeRunner(path), draws=1, runs=2).raise_if_failed()

    export_verified(wide, tmp_path / "model.onnx", accept, external_data=external)
    data = ["model.onnx.data"] if external else []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", *data]


@pytest.mark.parametrize("external", [True, False])
@pytest.mark.parametrize("error", [InputError("no"), KeyboardInterrupt()])
def test_a_rejected_model_leaves_the_old_file(
    wide: Program, tmp_path: Path, external: bool, error: BaseException
) -> None:
    (tmp_path / "model.onnx").write_text("old")

    def reject(path: Path) -> None:
        raise error

    with pytest.raises(type(error)):
        export_verified(wide, tmp_path / "model.onnx", reject, external_data=external)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "old"


def test_a_folder_that_is_not_there(tied: Program, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        to_onnx(tied, tmp_path / "missing" / "model.onnx")
    assert caught.value.code == "GO-3001"
