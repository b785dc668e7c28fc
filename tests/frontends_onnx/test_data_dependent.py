"""Outputs whose size only the data tells."""

import onnx
import pytest
import torch

from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx


def _model(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def test_a_size_is_found_at_run_time_also_with_dynamic_axes() -> None:
    program = import_onnx(_model("g (float[N, 3] x) => (int64[2, M] y) { y = NonZero(x) }")).check()
    for rows in (2, 5):
        x = torch.zeros(rows, 3)
        x[1, 2] = 1.0
        assert program(x)[0].tolist() == [[1], [2]]
    assert program(torch.zeros(2, 3))[0].shape == (2, 0)


def test_what_follows_may_use_the_size() -> None:
    text = """g (float[N] x) => (float[M] y, int64[1] count) <float zero = {0}> {
        chosen = Greater(x, zero)
        kept = Compress <axis = 0> (x, chosen)
        y = Exp(kept)
        count = Shape(kept)
    }"""
    program = import_onnx(_model(text)).check()
    y, count = program(torch.tensor([-1.0, 0.0, 2.0, -3.0, 1.0]))
    assert torch.equal(y, torch.exp(torch.tensor([2.0, 1.0])))
    assert count.tolist() == [2]


def test_a_decision_on_such_a_size_is_refused() -> None:
    text = """g (float[N] x, float[3] z) => (float[3] y) <float zero = {0}> {
        chosen = Greater(x, zero)
        kept = Compress <axis = 0> (x, chosen)
        y = Add(kept, z)
    }"""
    try:
        program = import_onnx(_model(text))
    except InputError as error:
        assert error.code in ("GO-3006", "GO-3007")
    else:
        assert program(torch.tensor([1.0, 2.0, 0.0, 3.0]), torch.zeros(3))[0].tolist() == [1.0, 2.0, 3.0]


def test_suppression_is_unrolled_to_a_limit() -> None:
    text = """g (float[1, N, 4] boxes, float[1, 2, N] scores) => (int64[K, 3] y)
    <int64[1] most = {300}, float[1] iou = {0.5}> { y = NonMaxSuppression(boxes, scores, most, iou) }"""
    with pytest.raises(InputError, match="up to 300 boxes of a class; at most 256"):
        import_onnx(_model(text))
    program = import_onnx(_model(text.replace("300", "2"))).check()
    boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3], [5, 5, 6, 6]]])
    scores = torch.tensor([[[0.5, 0.9, 0.7, 0.1], [0.4, 0.3, 0.2, 0.1]]])
    assert program(boxes, scores)[0].tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 2]]
