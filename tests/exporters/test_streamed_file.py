"""ONNX files with weights inside are written weight by weight, and are what protobuf would write."""

import io

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.exporters.onnx.stream import write_model_proto


def _ir_model() -> ir.Model:
    weights = {
        "large": np.arange(40 * 300, dtype=np.float32).reshape(40, 300),
        "small": np.ones(3, np.float32),
        "bytes": np.arange(4096, dtype=np.uint8),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float64),
    }
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>'
        "g (float[n, 40] x) => (float[n, 300] y) { y = MatMul(x, large) }"
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, n) for n, w in weights.items())
    loaded = ir.from_proto(model)
    assert isinstance(loaded, ir.Model)
    loaded.graph.initializers["large"].const_value = ir.Tensor(weights["large"], name="large")
    return loaded


@pytest.mark.parametrize("large", [0, 100, 10**6])
def test_the_file_is_the_message_that_protobuf_would_write(large: int) -> None:
    model = _ir_model()
    file = io.BytesIO()
    write_model_proto(model, file, large)
    written = onnx.ModelProto.FromString(file.getvalue())
    expected = ir.serde.serialize_model(_ir_model())
    assert _tensors(written) == _tensors(expected)
    for proto in (written, expected):
        del proto.graph.initializer[:], proto.graph.value_info[:]
    assert written == expected
    onnx.checker.check_model(onnx.ModelProto.FromString(file.getvalue()), full_check=True)


def test_the_model_is_left_as_it_was() -> None:
    model = _ir_model()
    names = list(model.graph.initializers)
    write_model_proto(model, io.BytesIO(), 0)
    assert list(model.graph.initializers) == names
    assert all(value.const_value is not None for value in model.graph.initializers.values())
    assert ir.serde.serialize_model(model) == ir.serde.serialize_model(_ir_model())


def _tensors(proto: onnx.ModelProto) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert len(arrays) == len(proto.graph.initializer)
    return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}
