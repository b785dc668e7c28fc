"""Each contract is checked as it promises, and contracts compose to the weaker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graphopt.contract import (
    BitExact,
    Bounded,
    Budget,
    Exact,
    ExactWhen,
    Lossy,
    Precondition,
    compose_all,
)
from graphopt.errors import GraphoptError, InputError, UsageError, VerificationError
from graphopt.exporters.onnx import to_onnx
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify
from graphopt.verification.metrics import METRICS


class Affine(nn.Module):
    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift
        self.weight = nn.Parameter(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.shift


def affine(shift: float = 0.0, dynamic: bool = True) -> Program:
    rows = {0: torch.export.Dim("rows", min=1, max=9)} if dynamic else None
    return capture_torch(
        Affine(shift).eval(), (torch.randn(4, 8),), dynamic_shapes=(rows,), output_names=["y"]
    )


@pytest.fixture(scope="module")
def reference() -> Program:
    return affine()


class Integers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.int32) * 3 + 1) >> 1


def test_bit_exact() -> None:
    program = capture_torch(Integers().eval(), (torch.zeros(6, dtype=torch.int8),))
    assert verify(program, program, contract=BitExact()).ok
    golden = BitExact(lambda x: [(x.numpy().astype("int32") * 3 + 1) >> 1])
    assert verify(program, program, contract=golden).ok
    wrong = verify(program, lambda x: (x.to(torch.int32) * 3) >> 1, contract=golden)
    assert not wrong.ok and "differ" in wrong.explanation()
    assert not verify(program, lambda x: (x.to(torch.int64) * 3 + 1) >> 1, contract=BitExact()).ok


def test_bit_exact_is_stricter_than_exact(reference: Program) -> None:
    def other_order(x: Tensor) -> Tensor:
        weight = reference.constants["weight"]
        return torch.stack([x[:, i, None] * weight[i] for i in reversed(range(8))]).sum(0)

    assert verify(reference, other_order).ok
    assert not verify(reference, other_order, contract=BitExact()).ok


def test_bounded(reference: Program) -> None:
    shifted = affine(1e-3)
    assert not verify(reference, shifted).ok
    for bound in (1.001e-3, {"y": 1.001e-3}, lambda program, inputs: [torch.full((5,), 1.001e-3)]):
        assert verify(reference, shifted, contract=Bounded(bound)).ok
    assert verify(reference, shifted, contract=Bounded(6e-4).then(Bounded(6e-4))).ok
    assert not verify(reference, shifted, contract=Bounded(0.99e-3)).ok
    for unusable in (Bounded(), Bounded({"z": 1.0}), Bounded(lambda program, inputs: [])):
        with pytest.raises(VerificationError):
            verify(reference, shifted, contract=unusable)


POSITIVE = Precondition(
    "x is not negative",
    holds=lambda program, inputs: bool((inputs[0] >= 0).all()),
    restrict=lambda inputs: [t.abs() for t in inputs],
)


def test_exact_when(reference: Program) -> None:
    def right_for_positive(x: Tensor) -> Tensor:
        return reference(x.abs())[0]

    assert not verify(reference, right_for_positive).ok
    assert verify(reference, right_for_positive, contract=ExactWhen(POSITIVE)).ok
    with pytest.raises(VerificationError) as caught:
        verify(reference, right_for_positive, contract=ExactWhen(POSITIVE), inputs=[-torch.ones(2, 8)])
    assert caught.value.code == "GO-5002"
    never = Precondition("impossible", holds=lambda program, inputs: False)
    with pytest.raises(InputError, match="impossible"):
        verify(reference, reference, contract=ExactWhen(never))


def test_lossy(reference: Program) -> None:
    shifted = affine(0.01)
    report = verify(reference, shifted, contract=Lossy("max_abs", 0.02))
    assert report.ok and report.metrics[0].value == pytest.approx(0.01, rel=1e-3)
    over = verify(reference, shifted, contract=Lossy("max_abs", 0.005))
    with pytest.raises(VerificationError) as caught:
        over.raise_if_failed()
    assert caught.value.code == "GO-5001"
    nan = verify(reference, lambda x: reference(x)[0] * torch.nan, contract=Lossy("relative_l2", 1e9))
    assert not nan.ok
    with pytest.raises(UsageError, match="cosine"):
        verify(reference, shifted, contract=Lossy("cosine", 1.0))


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_zero_for_equals_and_grow(name: str) -> None:
    y = torch.randn(64, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(64, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    metric = METRICS[name]
    assert abs(metric([y], [y])) < 1e-12
    assert 0 < metric([y], [y + noise * 0.3]) < metric([y], [y + noise * 3])


def test_composition() -> None:
    assert Exact().then(Exact()) == Exact()
    assert BitExact().then(Exact()) == Exact() and Exact().then(BitExact()) == Exact()
    assert ExactWhen("a").then(ExactWhen("b")) == ExactWhen("a", "b")
    assert Bounded(1.0).then(Bounded(2.0)) == Bounded(1.0, 2.0)
    assert Exact().then(Bounded(1.0)) == Bounded(1.0)
    assert str(Bounded(1.0).then(ExactWhen("a"))) == "bounded by 1 when a"
    both = Lossy("max_abs", 0.1).then(Lossy("relative_l2", 0.2)).then(Lossy("max_abs", 0.3))
    assert {b.name: b.limit for b in both.budgets} == pytest.approx({"max_abs": 0.4, "relative_l2": 0.2})
    assert Bounded(1.0).then(Lossy("max_abs", 0.1)) == Lossy("max_abs", 0.1)
    assert compose_all([]) == Exact()
    assert str(Budget("max_abs", 0.1)) == "max_abs <= 0.1"


def test_contracts_import_nothing_heavy() -> None:
    code = "import sys, graphopt.contract; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- reports and candidates -----------------------------------------------------------------------


def test_dynamic_sizes_are_all_tried(reference: Program) -> None:
    report = verify(reference, reference, draws=4)
    assert len({d.sizes["rows"] for d in report.draws}) == 4
    only_small = verify(reference, lambda x: reference(x)[0] * (1 if len(x) < 5 else 2), draws=4)
    assert not only_small.ok and only_small.failures[0][0].sizes["rows"] >= 5
    fixed = verify(reference, reference, shapes=[{"rows": 7}, {"rows": 1}], draws=1)
    assert [d.sizes["rows"] for d in fixed.draws] == [7, 1]


def test_report_is_json_and_repeats(reference: Program) -> None:
    a, b = (json.dumps(verify(reference, affine(1e-3), seed=3).to_dict()) for _ in range(2))
    assert a == b
    report = json.loads(a)
    assert report["ok"] is False
    (output,) = report["outputs"]
    assert output["name"] == "y" and output["ratio"] > 1 and len(output["worst_index"]) == 2
    assert report["draws"][0]["confirmed"] == [3, 3]


def test_message_names_everything_needed(reference: Program) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(reference, affine(1e-3), seed=3).raise_if_failed()
    text = caught.value.render()
    for part in ("GO-5000", "'y'", "expected", "got", "seed", "rows=4", "draw_inputs(program"):
        assert part in text


def test_users_inputs_are_used(reference: Program) -> None:
    seen: list[Tensor] = []

    def candidate(x: Tensor) -> Tensor:
        seen.append(x)
        return reference(x)[0]

    data = [[torch.full((2, 8), 3.0)], [torch.full((5, 8), 4.0)]]
    report = verify(reference, candidate, inputs=data)
    assert report.ok and [float(x[0, 0]) for x in seen] == [3.0, 4.0]
    assert [d.source for d in report.draws] == ["batch 0", "batch 1"]


@pytest.mark.parametrize(
    "candidate",
    [lambda x: 1 / 0, lambda x: "text", lambda x: (x, x), 3, affine(dynamic=False)],
    ids=["raises", "no tensor", "two outputs", "not callable", "static"],
)
def test_candidate_that_cannot_be_compared(reference: Program, candidate: object) -> None:
    with pytest.raises(GraphoptError) as caught:
        verify(reference, candidate, shapes=[{"rows": 3}]).raise_if_failed()
    assert caught.value.exit_status in (3, 5)


def test_output_that_rounding_decides_is_inconclusive() -> None:
    class Coin(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 1e-9 + 1.0).argmax(-1)

    program = capture_torch(Coin().eval(), (torch.randn(3, 16),))
    report = verify(program, program)
    assert not report.ok and len(report.inconclusive) == 1 and "rounding decides" in report.explanation()


def test_onnxruntime(reference: Program, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    def model(weight: Tensor) -> Path:
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "affine",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 5])],
            [numpy_helper.from_array(weight.detach().numpy(), "w")],
        )
        path = tmp_path / "affine.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        return path

    weight = reference.constants["weight"]
    assert verify(reference, OnnxRuntimeRunner(model(weight))).ok
    assert not verify(reference, OnnxRuntimeRunner(model(weight * 1.0001))).ok
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot load"):
        OnnxRuntimeRunner(tmp_path / "bad.onnx")


@pytest.mark.parametrize("rows", [3, 0])
def test_onnx_models_take_and_return_bfloat16(tmp_path: Path, rows: int) -> None:
    """NumPy has no bfloat16, in which onnxruntime's Python takes and returns tensors otherwise."""

    class Model(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x * 2, y + 1

    inputs = (torch.randn(rows, 4).bfloat16(), torch.arange(3))
    program = capture_torch(Model().eval(), inputs)
    to_onnx(program, tmp_path / "model.onnx")
    assert verify(program, OnnxRuntimeRunner(tmp_path / "model.onnx"), inputs=[inputs]).ok
