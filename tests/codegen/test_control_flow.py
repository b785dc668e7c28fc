"""Branches and loops in compiled code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch._higher_order_ops import while_loop
from torch.export import Dim

from graphopt.codegen import Artifact, compile, load_artifact, toolchain
from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import verify

Tensor = torch.Tensor


class Net(nn.Module):
    """A linear layer, and a function that uses it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def _program(function: Callable[..., Any], *, dynamic: bool = False) -> Program:
    rows = ({0: Dim("rows", min=2, max=16)},)
    net = Net(function).eval().requires_grad_(False)
    return capture_torch(net, (torch.randn(3, 4),), dynamic_shapes=rows if dynamic else None)


def _agrees(program: Program, *inputs: tuple[Tensor, ...]) -> None:
    """The artifact computes what the program does, on drawn inputs and on these."""
    artifact = compile(program, "cpu")
    verify(program, artifact).raise_if_failed()
    if inputs:
        verify(program, artifact, inputs=inputs).raise_if_failed()


def _used_after(net: Net, x: Tensor) -> Any:
    h = torch.relu(x)
    y = torch.cond(x.sum() > 0, lambda h, x: net.linear(h) + x, lambda h, x: net.linear(x) * h - 1, (h, x))
    return y + h, h * 2


def _operands_returned(net: Net, x: Tensor) -> Any:
    h, k = x * 2, x.exp()
    y = torch.cond(x.sum() > 0, lambda h, k: h.clone(), lambda h, k: k.clone(), (h, k))
    return torch.sigmoid(y.sum(0)), torch.tanh(k) @ k.T, y


def _nested(net: Net, x: Tensor) -> Any:
    def inner(x: Tensor) -> Tensor:
        return torch.cond(x[0].sum() > 0, lambda x: net.linear(x), lambda x: x * 3, (x,)) + 1

    return torch.cond(x.sum() > 0, inner, lambda x: inner(x.sin()) * 2, (x,))


def _two_results(net: Net, x: Tensor) -> Any:
    h, k = torch.cond(x.sum() > 0, lambda x: (net.linear(x), x.sum(0)), lambda x: (x.exp(), x[0] + 1), (x,))
    return torch.relu(h) + k, k


def _computed_sizes(net: Net, x: Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda x: x.reshape(-1) * x.shape[0], lambda x: (x + 1).reshape(-1), (x,))


def _one_after_the_other(net: Net, x: Tensor) -> Any:
    for step in range(3):
        x = torch.cond(x.sum() > 0, lambda x: net.linear(x), lambda x: x.cos() - 2, (x,)) + x * step
    return x


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize(
    "function",
    [_used_after, _operands_returned, _nested, _two_results, _computed_sizes, _one_after_the_other],
    ids=lambda f: f.__name__.strip("_"),
)
def test_branches(function: Callable[..., Any], dynamic: bool) -> None:
    x = torch.randn(3, 4).abs()
    other = torch.cat([-x[:1], x[:1] / 2, *([x] if dynamic else [-x[:1]])])
    _agrees(_program(function, dynamic=dynamic), (x,), (-x,), (other,))


def test_a_branch_that_sizes_select() -> None:
    program = _program(
        lambda net, x: torch.cond(x.shape[0] > 3, lambda x: x * 2, lambda x: x - 1, (x,)), dynamic=True
    )
    assert "cond" in program.text()
    _agrees(program, (torch.ones(3, 4),), (torch.ones(4, 4),))


def test_only_the_branch_that_is_taken_runs() -> None:
    def pick(net: Net, x: Tensor) -> Any:
        index = x[0, 0].to(torch.int64).reshape(1)
        return torch.cond(
            x[0, 1] > 0, lambda x, i: x.index_select(0, i), lambda x, i: x[:1].neg(), (x, index)
        )

    artifact = compile(_program(pick), "cpu")
    x = torch.tensor([[2.0, 1, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    assert torch.equal(artifact(x)[0], x[2:])
    x[0] = torch.tensor([1e9, -1, 0, 0])  # no such row: reading it would leave the tensor
    assert torch.equal(artifact(x)[0], -x[:1])


def test_weights_of_branches_are_packed_and_stored_once() -> None:
    artifact = compile(_program(_used_after), "cpu")
    rules = [k.rule for k in artifact.kernels() if "matmul" in k.name]
    assert rules == ["packed-product"] * 2

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(256, 256)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cond(x.sum() > 0, lambda x: self.linear(x), lambda x: self.linear(-x), (x,))

    wide = compile(capture_torch(Wide().eval(), (torch.randn(3, 256),)), "cpu")
    assert wide.path.stat().st_size < 1.5 * 256 * 256 * 4


def test_a_weight_that_a_branch_returns_is_the_callers_own() -> None:
    program = _program(
        lambda net, x: torch.cond(
            x.sum() > 0, lambda x: net.linear.weight.clone(), lambda x: net.linear.weight * 2, (x,)
        )
    )
    artifact = compile(program, "cpu")
    expected = artifact(torch.ones(3, 4))[0].clone()
    artifact(torch.ones(3, 4))[0].fill_(7)
    assert torch.equal(artifact(torch.ones(3, 4))[0], expected)


def test_branches_are_saved_and_loaded(tmp_path: Path) -> None:
    program = _program(_nested, dynamic=True)
    compile(program, "cpu").save(tmp_path / "model.so")
    verify(program, load_artifact(tmp_path / "model.so")).raise_if_failed()


@pytest.mark.skipif(toolchain.find_nvcc() is None, reason="nvcc is not installed")
def test_branches_compile_for_gpus() -> None:
    artifact = compile(_program(_used_after), "cuda:sm_90")
    assert all(k.rule not in ("unscheduled", "runtime") for k in artifact.kernels())


# -- while_loop ------------------------------------------------------------------------------------


class Loop(nn.Module):
    """``step(x, rows)`` for ``count`` times."""

    def __init__(self, step: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)
        self.step = step

    def forward(self, x: Tensor, count: Tensor, rows: Tensor) -> Any:
        def step(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return i + 1, self.step(self, x, rows)

        index, last = while_loop(lambda i, x: i < count, step, (torch.tensor(0), torch.relu(x)))
        return index, torch.tanh(last), x * 2


def _loop_program(step: Callable[..., Tensor], *, dynamic: bool) -> Program:
    example = (torch.randn(3, 4), torch.tensor(2), torch.randn(5, 4))
    sizes = ({0: Dim("n", min=2, max=16)}, None, {0: Dim("rows", min=2, max=16)}) if dynamic else None
    return capture_torch(Loop(step).eval().requires_grad_(False), example, dynamic_shapes=sizes)


def _layer(net: Loop, x: Tensor, rows: Tensor) -> Tensor:
    return torch.tanh(net.linear(x)) + rows.mean(0) * x.shape[0]


def _branch(net: Loop, x: Tensor, rows: Tensor) -> Tensor:
    return torch.cond(
        x.sum() > 2, lambda x, r: net.linear(x) - r, lambda x, r: x + r.abs(), (x, rows.mean(0))
    )


def _inner_loop(net: Loop, x: Tensor, rows: Tensor) -> Tensor:
    def smaller(x: Tensor) -> tuple[Tensor]:
        return (net.linear(x).tanh() * 0.1 + x * 0.5,)

    return while_loop(lambda x: x.abs().max() > 1, smaller, (x * 3,))[0] + rows[0]


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("step", [_layer, _branch, _inner_loop], ids=lambda f: f.__name__.strip("_"))
def test_loops(step: Callable[..., Tensor], dynamic: bool) -> None:
    program = _loop_program(step, dynamic=dynamic)
    assert "while_loop" in program.text()
    inputs = [(torch.randn(3, 4), torch.tensor(n), torch.randn(5, 4)) for n in (0, 1, 5)]
    if dynamic:
        inputs.append((torch.randn(7, 4), torch.tensor(3), torch.randn(2, 4)))
    artifact = compile(program, "cpu")
    verify(program, artifact, inputs=inputs).raise_if_failed()


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 64, 4999, 5000])
def test_a_loop_makes_as_many_steps_as_it_is_told(counting: Artifact, steps: int) -> None:
    x = torch.arange(3)
    index, last = counting(x, torch.tensor(steps))
    expected = x
    for _ in range(steps):
        expected = (expected * 5 + 3) % 1009
    assert index.item() == steps
    assert torch.equal(last, expected)


@pytest.fixture(scope="module")
def counting() -> Artifact:
    class Counting(nn.Module):
        def forward(self, x: Tensor, count: Tensor) -> Any:
            return while_loop(
                lambda i, x: i < count, lambda i, x: (i + 1, (x * 5 + 3) % 1009), (torch.tensor(0), x)
            )

    return compile(capture_torch(Counting().eval(), (torch.arange(3), torch.tensor(2))), "cpu")


def test_loops_are_saved_and_loaded(tmp_path: Path) -> None:
    program = _loop_program(_branch, dynamic=True)
    compile(program, "cpu").save(tmp_path / "model.so")
    inputs = [(torch.randn(6, 4), torch.tensor(3), torch.randn(5, 4))]
    verify(program, load_artifact(tmp_path / "model.so"), inputs=inputs).raise_if_failed()


# -- from ONNX -------------------------------------------------------------------------------------


def _model(text: str, opset: int = 17) -> Program:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')
    return import_onnx(model).check()


_IF = """g (float[N, 3] x) => (float[M, 3] y) <float zero = {{0}}, float[3] w = {{1, 2, 3}}> {{
    total = ReduceSum <keepdims = 0> (x)
    positive = Greater(total, zero)
    y = If (positive) <
        then_branch = a () => (float[M, 3] p) {{ p = Exp(x) }},
        else_branch = b () => (float[M, 3] q) {{ {otherwise} }}
    >
}}"""


def test_an_onnx_if() -> None:
    program = _model(_IF.format(otherwise="q = Mul(x, w)"))
    assert "cond" in program.text()
    _agrees(program, (torch.ones(2, 3),), (-torch.ones(5, 3),))


# -- refusals --------------------------------------------------------------------------------------


def test_results_whose_size_data_decides_are_refused() -> None:
    program = _model(_IF.format(otherwise="q = Concat <axis = 0> (x, x)"))
    with pytest.raises(
        InputError, match=r"cond: the branches give results of different sizes \(u0\)"
    ) as caught:
        compile(program, "cpu")
    assert caught.value.code == "GO-3005"
    assert caught.value.node == "cond" and caught.value.layer == "y"


def test_an_operator_that_a_branch_cannot_hold_is_named() -> None:
    program = _program(
        lambda net, x: torch.cond(
            x.sum() > 0, lambda x: torch.linalg.eigvalsh(x), lambda x: x.sum(1), (x[:, :3],)
        )
    )
    with pytest.raises(InputError, match="eigh") as caught:
        compile(program, "cpu")
    assert caught.value.code == "GO-3005"


def test_complex_operands_of_a_branch_are_refused() -> None:
    def real(net: Net, x: Tensor) -> Any:
        z = torch.polar(x, x + 1)
        return torch.cond(x.sum() > 0, lambda z: z.abs(), lambda z: z.abs() + 1, (z,))

    with pytest.raises(InputError, match="cond: a complex operand") as caught:
        compile(_program(real), "cpu")
    assert caught.value.code == "GO-3005"
