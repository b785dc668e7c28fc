"""uint16, uint32 and uint64 against numpy, at and around the edges of their ranges."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from graphopt.frontends.onnx import import_onnx

_FUNCTIONS = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.floor_divide,
    "Mod": np.remainder,
    "Max": np.maximum,
    "Min": np.minimum,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
}


@pytest.mark.parametrize("op_type", _FUNCTIONS)
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_arithmetic_is_that_of_numpy(op_type: str, bits: int) -> None:
    top, half = 2**bits - 1, 2 ** (bits - 1)
    edges = [0, 1, 2, 3, 7, half - 1, half, half + 1, top - 1, top, top // 3, half + half // 3]
    numbers = np.array(edges, dtype=f"uint{bits}")
    a, b = (g.ravel() for g in np.meshgrid(numbers, numbers))
    if op_type in ("Div", "Mod"):
        a, b = a[b != 0], b[b != 0]
    kind = getattr(TensorProto, f"UINT{bits}")
    result = TensorProto.BOOL if op_type in ("Less", "GreaterOrEqual") else kind
    graph = helper.make_graph(
        [helper.make_node(op_type, ["a", "b"], ["y"])],
        "g",
        [helper.make_tensor_value_info(n, kind, ["N"]) for n in "ab"],
        [helper.make_tensor_value_info("y", result, ["N"])],
    )
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    program = import_onnx(model)
    want = _FUNCTIONS[op_type](a, b)
    assert np.array_equal(program(torch.from_numpy(a), torch.from_numpy(b))[0].numpy(), want)
