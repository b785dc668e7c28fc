"""Every architecture, small: captured with all its axes open, and equal to its source on other sizes.

PP-OCRv4's files, which have no small variant, are imported in tests/frontends_onnx.
"""

import pytest

from benchmarks.zoo import MissingRequirement, get, names
from benchmarks.zoo.model import Model
from graphopt.verification import verify

SIZES = {"batch": 3, "sequence": 12, "past": 10, "source": 14, "height": 96, "width": 160}


def build(name: str) -> Model:
    try:
        return get(name, size="small")
    except MissingRequirement as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", names(source="torch"))
def test_torch_model(name: str) -> None:
    model = build(name)
    program = model.capture()

    assert program.notes == []
    assert [s.name for s in program.signature.inputs] == list(model.input_names)
    assert [s.name for s in program.signature.outputs] == list(model.output_names)
    for spec, tensor, axes in zip(program.signature.inputs, model.inputs, model.axes, strict=True):
        assert spec.shape == tuple(axes.get(axis, size) for axis, size in enumerate(tensor.shape))

    used = {dim for axes in model.axes for dim in axes.values()}
    resized = model.resized({dim: SIZES[dim] for dim in used})
    report = verify(program, model.reference(), inputs=[model.inputs, resized], runs=4)
    report.raise_if_failed()


@pytest.mark.parametrize("name", names(source="onnx", kind="text"))
def test_onnx_file(name: str) -> None:
    model = build(name)
    program = model.capture()

    assert [s.name for s in program.signature.inputs] == list(model.input_names)
    assert [s.name for s in program.signature.outputs] == list(model.output_names)
    for spec, axes in zip(program.signature.inputs, model.axes, strict=True):
        assert {axis for axis, dim in enumerate(spec.shape) if isinstance(dim, str)} == set(axes)

    used = {dim for axes in model.axes for dim in axes.values()}
    resized = model.resized({dim: SIZES[dim] for dim in used})
    report = verify(program, model.reference(), inputs=[model.inputs, resized], runs=4)
    report.raise_if_failed()
