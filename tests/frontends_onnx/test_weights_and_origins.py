"""Weights become trainable parameters with their names; nodes know the ONNX node they come from."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from graphopt.frontends.onnx import import_onnx
from graphopt.ir.provenance import origin


def _model() -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 2, 5, 5] x) => (float[N, 3, 5, 5] y) <float three = {3}> {
            c = Conv <pads = [1, 1, 1, 1]> (x, weight, bias)
            s = Add(c, three)
            y = Mul(s, scale)
        }"""
    )
    generator = np.random.default_rng(0)
    # The text form has no names with dots.
    names = {"weight": "layer.0.weight", "bias": "layer.0.bias", "scale": "layer.scale"}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    for name, shape in {"layer.0.weight": (3, 2, 3, 3), "layer.0.bias": (3,), "layer.scale": (1,)}.items():
        weight = generator.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    for node, name in zip(model.graph.node, ["stem/conv", "stem/shift", "stem/scale"], strict=True):
        node.name = name
    return model


def test_weights_keep_their_names_and_numbers_become_literals() -> None:
    program = import_onnx(_model())
    assert set(program.constants) == {"layer.0.weight", "layer.0.bias", "layer.scale"}
    assert all(isinstance(t, torch.nn.Parameter) for t in program.constants.values())
    (shift,) = [n for n in program.calls() if n.target is torch.ops.aten.add.Tensor]
    assert shift.args[1] == 3.0


def test_gradients_reach_every_weight() -> None:
    program = import_onnx(_model())
    program(torch.ones(1, 2, 5, 5))[0].sum().backward()
    assert all(t.grad is not None for t in program.constants.values())


def test_training_never_writes_to_the_file_of_external_weights(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(_model(), str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    before = (tmp_path / "w.bin").read_bytes()
    program = import_onnx(path)
    with torch.no_grad():
        for weight in program.constants.values():
            weight.add_(1.0)
    assert (tmp_path / "w.bin").read_bytes() == before
    fresh = import_onnx(path).constants["layer.0.bias"]
    assert torch.equal(fresh + 1.0, program.constants["layer.0.bias"])


_ORIGINS = [("conv2d", "stem/conv"), ("add", "stem/shift"), ("mul", "stem/scale")]


@pytest.mark.parametrize(("target", "name"), _ORIGINS)
def test_every_operator_knows_its_onnx_node(target: str, name: str) -> None:
    program = import_onnx(_model())
    nodes = [n for n in program.operator_nodes() if f"aten.{target}." in str(n.target)]
    assert [origin(n).layer for n in nodes] == [name]
    assert all(n.meta["custom"]["onnx_op"] in ("Conv", "Add", "Mul") for n in nodes)


def test_functions_of_the_model_are_evaluated_in_place() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[N, 4] x) => (float[N, 4] y) { y = local.scaled <alpha = 3.0> (x) }
        <domain: "local", opset_import: ["": 17]>
        scaled <alpha> (a) => (b) {
            factor = Constant <value_float: float = @alpha> ()
            b = Mul(a, factor)
        }"""
    )
    program = import_onnx(model)
    x = torch.randn(2, 4)
    assert torch.equal(program(x)[0], x * 3)
    (node,) = program.operator_nodes()
    assert str(origin(node).layer).startswith("y/")


@pytest.mark.parametrize("name", ["as", "lambda", "training", "forward"])
def test_a_weight_may_have_any_name(name: str) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 2] x) => (float[N, 2] y) <float[2] w = {1.25671, 2.12347}> { y = Mul(x, w) }"""
    )
    model.graph.initializer[0].name = model.graph.node[0].input[1] = name
    program = import_onnx(model)
    assert [n.rstrip("_") for n in program.constants] == [name]
    x = torch.randn(3, 2)
    assert torch.equal(program(x)[0], x * torch.tensor([1.25671, 2.12347]))


@pytest.mark.parametrize("name", ["depth", "notes", "store", "output_names", "graph_inputs", "fake_mode"])
def test_a_weight_may_be_called_like_anything(name: str) -> None:
    text = f"g (float[2] x) => (float[2] y) <float[2] {name} = {{3, 5}}> {{ y = Mul(x, {name}) }}"
    program = import_onnx(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{text}'))
    assert program.check()(torch.ones(2))[0].tolist() == [3.0, 5.0]
