"""Registration: once, under a valid name, with every form or the reason for its absence."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from graphopt.dialect import registry
from graphopt.dialect.op import Absent, OnnxForm
from graphopt.errors import InputError, UsageError


def _op():
    return registry.get("silu_mul")


def test_a_name_is_registered_once() -> None:
    with pytest.raises(UsageError, match="graphopt::silu_mul is registered already") as caught:
        registry.register(_op())
    assert caught.value.code == "GO-2006"


def test_loading_again_changes_nothing() -> None:
    before = registry.all_ops()
    registry.load()
    assert registry.all_ops() == before
    assert [op.name for op in before] == sorted(op.name for op in before)


def test_get_takes_overloads_and_names() -> None:
    op = _op()
    assert registry.get(torch.ops.graphopt.silu_mul.default) is op
    assert registry.get("graphopt::silu_mul") is op
    assert op.overload is torch.ops.graphopt.silu_mul.default
    assert registry.is_dialect(op.overload)
    assert not registry.is_dialect(torch.ops.aten.silu.default)
    assert not registry.is_dialect("graphopt::silu_mul")


def test_an_unknown_op_comes_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="silu_mull is not an op") as caught:
        registry.get("graphopt::silu_mull")
    assert caught.value.code == "GO-3005"
    assert caught.value.hint is not None and "graphopt::silu_mul" in caught.value.hint
    with pytest.raises(InputError):
        registry.get(torch.ops.aten.silu.default)


@pytest.mark.parametrize("name", ["", "Silu", "graphopt::silu", "silu-mul", "2silu"])
def test_malformed_names_are_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="not a dialect op name"):
        dataclasses.replace(_op(), name=name)


@pytest.mark.parametrize("form", ["autograd", "onnx", "relax"])
def test_a_form_is_there_or_absent_with_a_reason(form: str) -> None:
    with pytest.raises(TypeError, match=form):
        dataclasses.replace(_op(), **{form: None})
    with pytest.raises(ValueError, match="reason"):
        Absent(" ")
    assert getattr(dataclasses.replace(_op(), **{form: Absent("integers only")}), form).reason


def test_the_onnx_table_holds_what_the_opset_can_express() -> None:
    lowest = min(op.onnx.opset for op in registry.all_ops() if isinstance(op.onnx, OnnxForm))
    assert registry.onnx_translation_table(lowest - 1) == {}
    newest = registry.onnx_translation_table(23)
    assert set(newest) == {op.overload for op in registry.all_ops() if isinstance(op.onnx, OnnxForm)}


def test_the_decomposition_table_removes_the_whole_dialect() -> None:
    assert set(registry.decomposition_table()) == {op.overload for op in registry.all_ops()}


def test_registration_in_a_fresh_process_is_lazy_and_complete() -> None:
    script = """
import sys
import graphopt.dialect
assert "torch" not in sys.modules
from graphopt.dialect import registry
import graphopt.dialect.rotary
registry.load()
registry.load()
import torch
assert all(op.overload._schema for op in registry.all_ops())
heavy = {"tvm", "onnx", "onnxruntime", "onnxscript", "transformers"} & set(sys.modules)
assert not heavy, heavy
print(len(registry.all_ops()))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(registry.all_ops())
