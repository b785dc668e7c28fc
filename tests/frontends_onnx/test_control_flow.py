"""Branches that data selects, and loops that are unrolled."""

import onnx
import pytest
import torch

from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx
from graphopt.verification import OnnxRuntimeRunner, verify


def _model(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def _agrees(model: onnx.ModelProto) -> None:
    program = import_onnx(model).check()
    verify(program, OnnxRuntimeRunner(model.SerializeToString())).raise_if_failed()


def _branches(then: str, otherwise: str, shape: str = "N, 3") -> onnx.ModelProto:
    return _model(
        f"""g (float[{shape}] x) => (float[M, 3] y) <float zero = {{0}}> {{
            total = ReduceSum <keepdims = 0> (x)
            positive = Greater(total, zero)
            y = If (positive) <
                then_branch = a () => (float[M, 3] p) {{ {then} }},
                else_branch = b () => (float[M, 3] q) {{ {otherwise} }}
            >
        }}"""
    )


def test_data_selects_between_branches() -> None:
    model = _branches("p = Exp(x)", "q = Neg(x)")
    program = import_onnx(model).check()
    for sign in (1.0, -1.0):
        x = sign * torch.ones(4, 3)
        want = torch.exp(x) if sign > 0 else -x
        assert torch.equal(program(x)[0], want)
    _agrees(model)


def test_branches_of_different_shapes_are_refused_with_both() -> None:
    model = _branches("p = Exp(x)", "q = Concat <axis = 0> (x, x)")
    with pytest.raises(InputError, match="both branches cannot be computed: output 0 is") as caught:
        import_onnx(model)
    assert caught.value.code == "GO-3006"


_SCAN = """g (float[3] start, float[{steps}, 3] x) => (float[3] last, float[{steps}, 3] all) {{
    last, all = Scan <num_scan_inputs = 1{more}, body = step (float[3] state, float[3] element)
        => (float[3] next, float[3] given) {{
            next = Add(state, element)
            given = Mul(next, element)
        }}> (start, x)
}}"""


@pytest.mark.parametrize(
    "more",
    ["", ", scan_input_directions = [1]", ", scan_input_directions = [1], scan_output_directions = [1]"],
)
def test_scan_is_unrolled(more: str) -> None:
    _agrees(_model(_SCAN.format(steps=4, more=more)))


def test_scan_over_a_dynamic_axis_is_refused_and_says_what_to_do() -> None:
    model = _model(_SCAN.format(steps="T", more=""))
    with pytest.raises(InputError, match="elements of a dynamic axis") as caught:
        import_onnx(model)
    assert caught.value.hint is not None and "--dim" in caught.value.hint
    assert import_onnx(model, dims={"T": 4}).signature.inputs[1].shape == (4, 3)


def test_a_long_loop_is_refused() -> None:
    model = _model(
        """g (float[3] x) => (float[3] y) <int64 count = {100000}, bool go = {1}> {
            y = Loop (count, go, x) <body = b (int64 i, bool c, float[3] s) => (bool d, float[3] t) {
                d = Identity(c)
                t = Neg(s)
            }>
        }"""
    )
    with pytest.raises(InputError, match="runs 100000 times; at most 4096"):
        import_onnx(model)
