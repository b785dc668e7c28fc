"""What torch's exporters write for small models: a part of ``benchmarks/onnx_exports.py``, which tries all.

The cases are those in which something was wrong once: masks of TorchScript, sizes read through Flatten,
anchors that follow the size of a picture.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.onnx_export_steps import Outcome, export_step, import_step, runtime_step, sizes_of
from benchmarks.zoo.model import Model

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="no transformers")


@pytest.mark.parametrize(
    ("model", "exporter", "opset", "dtype"),
    [
        ("detector-head", "torchscript", 11, "float32"),
        ("detector-head", "dynamo", 20, "float16"),
        pytest.param("bert-base", "torchscript", 16, "float32", marks=needs_transformers),
        pytest.param("t5-small-encoder", "torchscript", 17, "float32", marks=needs_transformers),
    ],
)
def test_it_imports_once_and_agrees_at_three_sizes(
    model: str, exporter: str, opset: int, dtype: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "model.onnx")
    for outcome in (
        export_step(model, exporter, opset, dtype, path),
        runtime_step(model, dtype, path),
        import_step(model, dtype, path),
    ):
        assert outcome == Outcome("ok")


@needs_transformers
def test_what_an_exporter_cannot_do_is_not_counted_against_the_importer(tmp_path: Path) -> None:
    outcome = export_step("vit-s", "torchscript", 11, "float32", str(tmp_path / "model.onnx"))
    assert outcome.kind == "no export" and "scaled_dot_product_attention" in outcome.detail


def test_sizes_are_three_and_differ() -> None:
    from benchmarks.onnx_export_models import build

    model: Model = build("detector-head")
    sizes = sizes_of(model)
    assert len({tuple(s.values()) for s in sizes}) == 3
    assert all(s["height"] % 4 == 0 and s["width"] % 4 == 0 for s in sizes)
