"""Recurrent layers against onnxruntime: sequences of different lengths, dynamic lengths, general cells."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.frontends.onnx import import_onnx
from graphopt.verification import OnnxRuntimeRunner, verify

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_INPUT, _HIDDEN = 3, 5


def _model(
    op_type: str,
    *,
    steps: int | str = "steps",
    direction: str = "forward",
    lengths: bool = False,
    peepholes: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """A layer with random weights and initial states as inputs."""
    generator = np.random.default_rng(7)
    directions, gates = 2 if direction == "bidirectional" else 1, _GATES[op_type]

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(generator.normal(0, 0.6, shape).astype(np.float32), name)

    weights = [
        weight("w", directions, gates * _HIDDEN, _INPUT),
        weight("r", directions, gates * _HIDDEN, _HIDDEN),
        weight("b", directions, 2 * gates * _HIDDEN),
    ]
    state = [directions, "batch", _HIDDEN]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, "batch", _INPUT])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))
    inputs.append(helper.make_tensor_value_info("h0", TensorProto.FLOAT, state))
    names = ["x", "w", "r", "b", "lengths" if lengths else "", "h0"]
    outputs = ["y", "y_h"]
    if op_type == "LSTM":
        inputs.append(helper.make_tensor_value_info("c0", TensorProto.FLOAT, state))
        names.append("c0")
        outputs.append("y_c")
    if peepholes:
        weights.append(weight("p", directions, 3 * _HIDDEN))
        names.append("p")
    node = helper.make_node(op_type, names, outputs, hidden_size=_HIDDEN, direction=direction, **attributes)
    results = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["a", "b", "c", "d"][: 4 if n == "y" else 3])
        for n in outputs
    ]
    graph = helper.make_graph([node], "g", inputs, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _agrees(model: onnx.ModelProto, steps: int, lengths: list[int] | None) -> None:
    generator = np.random.default_rng(1)
    batch = 3
    program = import_onnx(model).check()
    directions = program.signature.inputs[-1].shape[0]
    feeds = [generator.normal(size=(steps, batch, _INPUT)).astype(np.float32)]
    if lengths is not None:
        feeds.append(np.array(lengths, np.int32))
    while len(feeds) < len(program.signature.inputs):
        feeds.append(generator.normal(size=(int(directions), batch, _HIDDEN)).astype(np.float32))
    runner = OnnxRuntimeRunner(model.SerializeToString())
    verify(program, runner, inputs=[feeds]).raise_if_failed()


@pytest.mark.parametrize(
    ("op_type", "direction"),
    [
        ("LSTM", "forward"),
        ("LSTM", "reverse"),
        ("LSTM", "bidirectional"),
        ("GRU", "bidirectional"),
        ("RNN", "reverse"),
    ],
)
def test_lengths_of_sequences_of_a_dynamic_length(op_type: str, direction: str) -> None:
    more = {"linear_before_reset": 1} if op_type == "GRU" else {}
    model = _model(op_type, direction=direction, lengths=True, **more)
    _agrees(model, 4, [4, 1, 3])


def test_one_import_runs_at_several_lengths() -> None:
    model = _model("LSTM", direction="bidirectional")
    for steps in (1, 5):
        _agrees(model, steps, None)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LSTM", {"clip": 0.4}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"peepholes": True}),
        ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
        ("GRU", {"linear_before_reset": 0}),
        ("GRU", {"clip": 0.4, "linear_before_reset": 1}),
        ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.3]}),
        ("RNN", {"activations": ["Relu"]}),
    ],
)
def test_general_cells(op_type: str, attributes: dict[str, Any]) -> None:
    attributes = {k: v * 2 if isinstance(v, list) else v for k, v in attributes.items()}
    model = _model(op_type, steps=3, direction="bidirectional", lengths=True, **attributes)
    _agrees(model, 3, [3, 1, 2])


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LSTM", {"peepholes": True}),
        ("GRU", {"linear_before_reset": 0}),
        ("RNN", {"activations": ["LeakyRelu", "LeakyRelu"], "activation_alpha": [0.3, 0.3]}),
    ],
)
def test_general_cells_of_dynamic_length(op_type: str, attributes: dict[str, Any]) -> None:
    model = _model(op_type, direction="bidirectional", lengths=True, **attributes)
    for steps in (1, 4):
        _agrees(model, steps, [steps, 1, min(steps, 3)])
