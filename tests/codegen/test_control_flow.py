"""Branches and loops in compiled code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch._higher_order_ops import scan, while_loop
from torch.export import Dim

from graphopt.codegen import Artifact, compile, load_artifact, toolchain
from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import verify

Tensor = torch.Tensor


def _each(*functions: Callable[..., Any]) -> pytest.MarkDecorator:
    """Each function with dynamic sizes, the first with fixed ones too."""
    cases = [pytest.param(f, True, id=f"{f.__name__.strip('_')}-dynamic") for f in functions]
    cases += [pytest.param(f, False, id=f"{f.__name__.strip('_')}-static") for f in functions[:1]]
    return pytest.mark.parametrize(("function", "dynamic"), cases)


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


@_each(_used_after, _operands_returned, _nested, _two_results, _computed_sizes, _one_after_the_other)
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


@_each(_layer, _branch, _inner_loop)
def test_loops(function: Callable[..., Tensor], dynamic: bool) -> None:
    program = _loop_program(function, dynamic=dynamic)
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


# -- scan ------------------------------------------------------------------------------------------


def _gated(net: Net, x: Tensor) -> Any:
    """A recurrent cell; two results of one shape, which must not share their memory."""

    def cell(h: Tensor, e: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        gate = torch.sigmoid(net.linear(h.unsqueeze(0)).squeeze(0) + e)
        h = gate * h + (1 - gate) * torch.tanh(e)
        return h, (h * 2, gate - e)

    h, (first, second) = scan(cell, x[0] * 0.5, x)
    return h, first + x, second


def _scalars(net: Net, x: Tensor) -> Any:
    last, (running, largest) = scan(lambda c, e: (c + e.sum(), (e * c, e.amax())), x.new_zeros(()), x)
    return last, torch.relu(running) + x, largest


def _matrices(net: Net, x: Tensor) -> Any:
    """States and results as wide as the scanned axis is long, with a branch and a whole tensor inside."""

    def step(state: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.cond(
            e.sum() > 0, lambda s, x, e: net.linear(s) + x, lambda s, x, e: s - e, (state, x, e)
        )
        return state, state * e

    return scan(step, x * 0.5, x)


def _in_a_branch(net: Net, x: Tensor) -> Any:
    def scanned(x: Tensor) -> Tensor:
        return scan(lambda c, e: (c + e, torch.tanh(net.linear(c)) * e), x[0] * 1, x)[1]

    return torch.cond(x.sum() > 0, scanned, lambda x: net.linear(x), (x,))


def _in_a_loop(net: Net, x: Tensor) -> Any:
    """A scan in each step of a loop: the rows of one step must not be those of the next."""

    def step(i: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return i + 1, scan(lambda c, e: (c * 0.5 + e, c * e + 0.1), x[0] * 1, x)[1]

    return while_loop(lambda i, x: i < 3, step, (torch.tensor(0), x))


def _with_a_loop(net: Net, x: Tensor) -> Any:
    def step(c: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        start = torch.zeros((), dtype=torch.int64)
        _, y = while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, torch.tanh(net.linear(y))), (start, c + e))
        return y * 1.0, y + e

    return scan(step, x[0] * 1, x)


@_each(_gated, _scalars, _matrices, _in_a_branch, _in_a_loop, _with_a_loop)
def test_scans(function: Callable[..., Any], dynamic: bool) -> None:
    program = _program(function, dynamic=dynamic)
    assert "scan" in program.text()
    _agrees(program, (torch.randn(3, 4),), (torch.randn(16 if dynamic else 3, 4),))


def test_results_of_a_scan_are_not_overwritten_by_the_next_call() -> None:
    artifact = compile(_program(_gated), "cpu")
    x = torch.randn(3, 4)
    first = artifact(x)
    kept = [y.clone() for y in first]
    artifact(x + 1)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_scans_are_saved_and_loaded(tmp_path: Path) -> None:
    program = _program(_gated, dynamic=True)
    compile(program, "cpu").save(tmp_path / "model.so")
    verify(program, load_artifact(tmp_path / "model.so")).raise_if_failed()


@pytest.mark.skipif(toolchain.find_nvcc() is None, reason="nvcc is not installed")
@pytest.mark.parametrize("kind", ["cond", "while_loop", "scan"])
def test_control_flow_compiles_for_gpus(kind: str) -> None:
    programs = {
        "cond": lambda: _program(_used_after),
        "while_loop": lambda: _loop_program(_branch, dynamic=True),
        "scan": lambda: _program(_scalars),
    }
    artifact = compile(programs[kind](), "cuda:sm_90")
    assert all(k.rule not in ("unscheduled", "runtime") for k in artifact.kernels())


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


def test_an_onnx_if_that_only_chooses() -> None:
    program = _model(
        """g (bool flag) => (float[2] y) {
            y = If (flag) <
                then_branch = a () => (float[2] p) { p = Constant <value = float[2] {1, 2}> () },
                else_branch = b () => (float[2] q) { q = Constant <value = float[2] {3, 4}> () }
            >
        }"""
    )
    artifact = compile(program, "cpu")
    for flag, values in ((True, [1.0, 2.0]), (False, [3.0, 4.0])):
        (y,) = artifact(torch.tensor(flag))
        assert y.tolist() == values
        y.fill_(7)  # the caller's own
        assert artifact(torch.tensor(flag))[0].tolist() == values


def test_sizes_from_outside_reach_a_branch() -> None:
    program = _model(
        """g (float[N, 3] x, float[K] z) => (float[L] y) <float zero = {0}> {
            total = ReduceSum <keepdims = 0> (x)
            positive = Greater(total, zero)
            size = Shape(z)
            y = If (positive) <
                then_branch = a () => (float[L] p) { p = ConstantOfShape <value = float[1] {2}> (size) },
                else_branch = b () => (float[L] q) { q = Neg(z) }
            >
        }"""
    )
    z = torch.randn(7)
    _agrees(program, (torch.ones(2, 3), z), (-torch.ones(2, 3), z))


_SCAN = """g (float[3] start, float[T, 3] x, float[3, 3] w) => (float[3] last, float[T, 3] all) {
    last, all = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = step (float[3] s, float[3] e)
        => (float[3] next, float[3] given) {
            turned = MatMul(s, w)
            bounded = Tanh(turned)
            next = Add(bounded, e)
            given = Mul(next, e)
        }> (start, x)
}"""

_LOOP = """g (float[3] x, int64 n, float[N, 3] rows) => ({results}) <bool go = {{1}}, int64 few = {{3}}> {{
    size = Shape(rows)
    zero = Constant <value_int = 0> ()
    length = Gather(size, zero)
    {names} = Loop ({count}, go, x) <
        body = b (int64 i, bool c, float[3] s) => (bool d, {given}) {{ {body} }}
    >
}}"""


def _onnx_loop(count: str, body: str, *, collects: bool = False) -> Program:
    results, names, given = "float[3] y", "y", "float[3] t"
    if collects:
        results, names, given = results + ", float[M, 3] all", names + ", all", given + ", float[3] o"
    return _model(_LOOP.format(results=results, names=names, count=count, given=given, body=body))


_ENDED = """a = Abs(s) one = Constant <value_float = 1.0> () limit = Constant <value_float = 100.0> ()
    more = Add(a, one) t = Add(more, a) sum = ReduceSum <keepdims = 0> (t) d = Less(sum, limit)"""


def test_an_onnx_scan() -> None:
    program = _model(_SCAN)
    assert "scan(" in program.text()
    _agrees(program, (torch.ones(3), torch.randn(5, 3), torch.randn(3, 3)))


@pytest.mark.parametrize(
    ("count", "body", "collects"),
    [
        ("n", "d = Identity(c) t = Neg(s)", False),
        ("", _ENDED, False),
        ("few", _ENDED, False),
        ("length", "d = Identity(c) r = Gather(rows, i) t = Add(s, r) o = Neg(t)", True),
    ],
    ids=["counted", "ended", "counted-and-ended", "collects"],
)
def test_onnx_loops(count: str, body: str, collects: bool) -> None:
    program = _onnx_loop(count, body, collects=collects)
    assert "while_loop(" in program.text() or "scan(" in program.text()
    inputs = [(torch.ones(3), torch.tensor(n), torch.randn(rows, 3)) for n, rows in ((0, 1), (5, 4))]
    verify(program, compile(program, "cpu"), inputs=inputs).raise_if_failed()


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
    def values(net: Net, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: torch.linalg.eigvalsh(x), lambda x: x.sum(1), (x[:, :3],))

    model = nn.Sequential(Net(values)).eval().requires_grad_(False)
    with pytest.raises(InputError, match="eigh") as caught:
        compile(capture_torch(model, (torch.randn(3, 4),)), "cpu")
    assert caught.value.code == "GO-3005"
    assert caught.value.node == "linalg_eigvalsh" and caught.value.layer == "0"


def test_complex_operands_of_a_branch_are_refused() -> None:
    def real(net: Net, x: Tensor) -> Any:
        z = torch.polar(x, x + 1)
        return torch.cond(x.sum() > 0, lambda z: z.abs(), lambda z: z.abs() + 1, (z,))

    with pytest.raises(InputError, match="cond: a complex operand") as caught:
        compile(_program(real), "cpu")
    assert caught.value.code == "GO-3005"


def test_collected_results_whose_number_data_decides_are_refused() -> None:
    with pytest.raises(InputError, match="depends on data") as caught:
        compile(_onnx_loop("few", _ENDED + " o = Neg(t)", collects=True), "cpu")
    assert caught.value.code == "GO-3005"


def test_a_complex_state_is_refused() -> None:
    def turned(net: Net, x: Tensor) -> Any:
        z = torch.polar(x, x + 1)
        return while_loop(lambda i, z: i < 3, lambda i, z: (i + 1, z * 2), (torch.tensor(0), z))[1].abs()

    with pytest.raises(InputError, match="while_loop: a complex") as caught:
        compile(_program(turned), "cpu")
    assert caught.value.code == "GO-3005" and caught.value.node == "while_loop"
