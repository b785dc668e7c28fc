"""Attributes that no converter reads."""

import onnx
import pytest

from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx


def _model(node: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]>'
        f"g (float[2, 3, 8, 8] x, float[3] s) => (float[a, b, c, d] y) {{ {node} }}"
    )


def test_an_attribute_that_nothing_reads_is_refused_by_name() -> None:
    """One mean for each pixel: a meaning of opset 7 that no other version has."""
    model = _model("y = BatchNormalization <spatial = 0> (x, s, s, s, s)", opset=7)
    with pytest.raises(InputError, match="has the attribute 'spatial' = 0, which is not supported") as caught:
        import_onnx(model)
    assert caught.value.code == "GO-3006"


def test_the_default_value_is_as_good_as_none() -> None:
    """stash_type is not read; 1 is its default."""
    text = "t = Transpose <perm = [0, 2, 3, 1]> (x)\n y = LayerNormalization <stash_type = {0}> (t, s)"
    import_onnx(_model(text.replace("{0}", "1")))
    with pytest.raises(InputError, match="'stash_type' = 10"):
        import_onnx(_model(text.replace("{0}", "10")))


@pytest.mark.parametrize(
    "node",
    [
        "y = MaxPool <kernel_shape = [2, 2], storage_order = 1> (x)",
        "y = Concat <axis = 2> (x)",
        "y = Dropout <seed = 3> (x)",
    ],
)
def test_attributes_without_a_meaning_here_are_left_alone(node: str) -> None:
    import_onnx(_model(node))
