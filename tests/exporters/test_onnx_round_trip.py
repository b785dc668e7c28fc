"""What a file says beside its numbers survives import and export: names, dimensions, metadata, origins."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from graphopt.exporters.onnx import to_onnx
from graphopt.exporters.pt2 import load_pt2, save_pt2
from graphopt.frontends.onnx import import_onnx

_TEXT = """<ir_version: 8, opset_import: ["": 17], producer_name: "paddle2onnx", producer_version: "1.0",
    doc_string: "reads receipts">
receipts (float[batch, 3, height, 8] picture) => (float[batch, 2, h, 8] features)
<float[2, 3, 1, 1] weight = {1.5, 2.5, 3.5, 4.5, 5.5, 6.5}> {
    convolved = Conv (picture, weight)
    features = Relu (convolved)
}"""


@pytest.fixture
def written() -> onnx.ModelProto:
    model = onnx.parser.parse_model(_TEXT)
    for node, name in zip(model.graph.node, ("stem/conv", "stem/relu"), strict=True):
        node.name = name
    model.metadata_props.add(key="labels", value="a,b,c")
    return model


def _round_trip(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    to_onnx(import_onnx(model), path)
    exported = onnx.load(path)
    onnx.checker.check_model(exported, full_check=True)
    return exported


def _shapes(values: object) -> list[tuple[str, list[int | str]]]:
    return [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values]


def test_names_and_dimensions(written: onnx.ModelProto, tmp_path: Path) -> None:
    exported = _round_trip(written, tmp_path / "a.onnx")
    assert _shapes(exported.graph.input) == [("picture", ["batch", 3, "height", 8])]
    assert _shapes(exported.graph.output) == [("features", ["batch", 2, "height", 8])]
    assert [t.name for t in exported.graph.initializer] == ["weight"]
    assert [n.name for n in exported.graph.node] == ["stem/conv", "stem/relu"]


def test_metadata(written: onnx.ModelProto, tmp_path: Path) -> None:
    exported = _round_trip(written, tmp_path / "a.onnx")
    facts = {p.key: p.value for p in exported.metadata_props}
    assert facts["labels"] == "a,b,c"
    assert facts["graphopt.source_producer"] == "paddle2onnx 1.0"
    assert exported.producer_name == "graphopt"
    assert exported.doc_string == "reads receipts"


def test_origins_and_metadata_survive_a_second_trip(written: onnx.ModelProto, tmp_path: Path) -> None:
    first = _round_trip(written, tmp_path / "a.onnx")
    for node in first.graph.node:
        node.name = ""  # origins do not hang on names
    second = _round_trip(first, tmp_path / "b.onnx")
    layers = [{p.key: p.value for p in n.metadata_props}["graphopt.layers"] for n in second.graph.node]
    assert layers == ["stem/conv", "stem/relu"]
    assert {p.key: p.value for p in second.metadata_props} == {p.key: p.value for p in first.metadata_props}
    assert second.doc_string == "reads receipts"


def test_metadata_survives_pt2(written: onnx.ModelProto, tmp_path: Path) -> None:
    program = import_onnx(written)
    save_pt2(program, tmp_path / "a.pt2")
    assert load_pt2(tmp_path / "a.pt2").metadata == program.metadata


def test_nodes_of_one_layer_have_names_of_their_own(written: onnx.ModelProto, tmp_path: Path) -> None:
    written.graph.node[1].op_type = "Mish"
    written.opset_import[0].version = 18
    names = [n.name for n in _round_trip(written, tmp_path / "a.onnx").graph.node]
    assert len(set(names)) == len(names)
