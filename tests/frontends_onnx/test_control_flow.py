"""Branches that data selects; loops that are unrolled, and those that stay loops."""

from pathlib import Path

import onnx
import pytest
import torch

import graphopt
from graphopt import passes
from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify


def _model(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def _calls(program: Program, name: str) -> int:
    return sum(getattr(n.target, "__name__", "") == name for n in program.calls())


def _agrees(model: onnx.ModelProto) -> Program:
    program = import_onnx(model).check()
    verify(program, OnnxRuntimeRunner(model.SerializeToString())).raise_if_failed()
    return program


def _branches(then: str, otherwise: str) -> onnx.ModelProto:
    return _model(
        f"""g (float[N, 3] x) => (float[M, 3] y) <float zero = {{0}}, float[3] w = {{1, 2, 3}}> {{
            total = ReduceSum <keepdims = 0> (x)
            positive = Greater(total, zero)
            twice = Add(x, x)
            y = If (positive) <
                then_branch = a () => (float[M, 3] p) {{ {then} }},
                else_branch = b () => (float[M, 3] q) {{ {otherwise} }}
            >
        }}"""
    )


def test_data_selects_a_branch_and_the_other_one_is_not_run() -> None:
    model = _model(
        """g (float[N, 3] x, int64[1] row) => (float[M, 3] y) <int64[1] limit = {2}> {
            inside = Less(row, limit)
            y = If (inside) <
                then_branch = a () => (float[M, 3] p) { p = Gather(x, row) },
                else_branch = b () => (float[M, 3] q) { q = Neg(x) }
            >
        }"""
    )
    program = import_onnx(model).check()
    assert _calls(program, "cond") == 1
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(program(x, torch.tensor([1]))[0], x[1:])
    # There is no row 5: running both branches would fail.
    assert torch.equal(program(x, torch.tensor([5]))[0], -x)


@pytest.mark.parametrize(
    ("then", "otherwise"),
    [
        ("p = Exp(twice)", "q = Mul(x, w)"),
        ("p = Exp(x)", "q = Concat <axis = 0> (x, x)"),
        (
            "p = Exp(x)",
            """limit = Constant <value_float = -20.0> ()
            low = Less(total, limit)
            q = If (low) <
                then_branch = c () => (float[M, 3] r) { n = Neg(w) r = Mul(twice, n) },
                else_branch = d () => (float[M, 3] t) {
                    k = Constant <value = float[3] {7, 8, 9}> ()
                    t = Add(x, k)
                }
            >""",
        ),
    ],
    ids=["weights", "sizes", "nested"],
)
def test_branches_agree_with_onnxruntime(then: str, otherwise: str) -> None:
    _agrees(_branches(then, otherwise))


def test_sizes_from_outside_reach_a_branch() -> None:
    model = _model(
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
    program = import_onnx(model).check()
    for length in (2, 5):
        assert torch.equal(program(torch.ones(2, 3), torch.ones(length))[0], torch.full((length,), 2.0))


def test_gradients_flow_through_the_branch_that_was_taken() -> None:
    program = import_onnx(_branches("p = Mul(twice, w)", "q = Neg(x)"))
    (weight,) = program.constants.values()
    program.graph_module(torch.ones(2, 3))[0].sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, torch.full((3,), 4.0))


def test_branches_of_different_ranks_are_refused_with_both() -> None:
    model = _branches("p = Exp(x)", "q = Identity(total)")
    with pytest.raises(InputError, match=r"its result 0 is float32\[.*, '3'\] or float32\[\]") as caught:
        import_onnx(model)
    assert caught.value.code == "GO-3006"
    assert caught.value.node == "y"


def _nested(depth: int, out: str = "y") -> str:
    if depth == 0:
        return f"{out} = Exp(x)"
    return f"""limit{depth} = Constant <value_float = -{depth}.0> ()
        low{depth} = Less(total, limit{depth})
        {out} = If (low{depth}) <
            then_branch = a{depth} () => (float[N, 3] p{depth}) {{ {_nested(depth - 1, f"p{depth}")} }},
            else_branch = b{depth} () => (float[N, 3] q{depth}) {{ q{depth} = Neg(x) }}
        >"""


def test_branches_in_branches_have_a_limit() -> None:
    head = "g (float[N, 3] x) => (float[N, 3] y) { total = ReduceSum <keepdims = 0> (x) "
    x = torch.full((2, 3), -1.0)
    assert torch.equal(import_onnx(_model(head + _nested(3) + "}")).check()(x)[0], torch.exp(x))
    with pytest.raises(InputError, match="stands in 5 others that data decides"):
        import_onnx(_model(head + _nested(12) + "}"))


_SCAN = """g (float[3] start, float[{steps}, 3] x, float[3, 3] w) => (float[3] last, float[{steps}, 3] all) {{
    last, all = Scan <num_scan_inputs = 1{more}, body = step (float[3] state, float[3] element)
        => (float[3] next, float[3] given) {{
            turned = MatMul(state, w)
            bounded = Tanh(turned)
            next = Add(bounded, element)
            given = Mul(next, element)
        }}> (start, x)
}}"""


@pytest.mark.parametrize("steps", ["4", "T"])
@pytest.mark.parametrize(
    "more",
    ["", ", scan_input_directions = [1]", ", scan_input_directions = [1], scan_output_directions = [1]"],
)
def test_scan_is_unrolled_over_a_known_axis_only(steps: str, more: str) -> None:
    program = _agrees(_model(_SCAN.format(steps=steps, more=more)))
    assert _calls(program, "scan") == (steps == "T")


def _loop(count: str, body: str, *, collects: bool = False) -> onnx.ModelProto:
    """A loop over the state s, which becomes t; with ``collects``, the outputs o of its steps are stacked."""
    outputs, names, given = "float[3] y", "y", "float[3] t"
    if collects:
        outputs, names, given = outputs + ", float[M, 3] all", names + ", all", given + ", float[3] o"
    return _model(
        f"""g (float[3] x, int64 n, float[N, 3] rows) => ({outputs})
        <bool go = {{1}}, float limit = {{100}}, int64 few = {{3}}, int64 many = {{4101}}> {{
            size = Shape(rows)
            zero = Constant <value_int = 0> ()
            length = Gather(size, zero)
            {names} = Loop ({count}, go, x) <
                body = b (int64 i, bool c, float[3] s) => (bool d, {given}) {{ {body} }}
            >
        }}"""
    )


_COUNTED = "d = Identity(c) half = Constant <value_float = 0.5> () t = Mul(s, half)"
_ENDED = """a = Abs(s) one = Constant <value_float = 1.0> () more = Add(a, one) t = Add(more, a)
    sum = ReduceSum <keepdims = 0> (t) d = Less(sum, limit)"""


@pytest.mark.parametrize(
    ("count", "body", "operator"),
    [
        ("few", _COUNTED, None),
        ("n", _COUNTED, "while_loop"),
        ("length", _COUNTED, "while_loop"),
        ("", _ENDED, "while_loop"),
        ("few", _ENDED, "while_loop"),
    ],
)
def test_loops(count: str, body: str, operator: str | None) -> None:
    program = _agrees(_loop(count, body))
    assert [n for n in ("while_loop", "scan") if _calls(program, n)] == [n for n in [operator] if n]


def test_a_loop_of_many_steps_is_not_unrolled() -> None:
    program = import_onnx(_loop("many", "d = Identity(c) t = Neg(s)")).check()
    assert _calls(program, "while_loop") == 1
    assert torch.equal(program(torch.ones(3), torch.tensor(0), torch.ones(2, 3))[0], -torch.ones(3))


@pytest.mark.parametrize(
    ("count", "body"),
    [
        ("few", _COUNTED),
        ("length", "d = Identity(c) r = Gather(rows, i) t = Add(s, r)"),
        ("n", _COUNTED),
        ("few", _ENDED),
        ("length", _ENDED),
    ],
)
def test_what_the_steps_of_a_loop_give_is_stacked(count: str, body: str) -> None:
    _agrees(_loop(count, body + " o = Neg(t)", collects=True))


def test_a_loop_of_no_steps_at_run_time() -> None:
    model = _loop("n", _COUNTED + " o = Neg(t)", collects=True)
    x = torch.tensor([1.0, 2.0, 3.0])
    last, stacked = import_onnx(model)(x, torch.tensor(0), torch.ones(2, 3))
    assert torch.equal(last, x) and stacked.shape == (0, 3)


@pytest.mark.parametrize(
    ("count", "body", "collects", "words"),
    [
        ("n", "d = Identity(c) t = Concat <axis = 0> (s, s)", False, "changes its state 0 from"),
        ("", _ENDED + " o = Neg(t)", True, "nothing bounds how many"),
    ],
)
def test_loops_that_torch_cannot_hold_are_refused(count: str, body: str, collects: bool, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        import_onnx(_loop(count, body, collects=collects))
    assert caught.value.code == "GO-3006"
    assert caught.value.node == "y"


_KINDS = {
    "cond": _branches("p = Exp(twice)", "q = Concat <axis = 0> (x, w2)".replace("w2", "x")),
    "while": _loop("n", _ENDED),
    "scan": _model(_SCAN.format(steps="T", more="")),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_control_flow_goes_through_passes_and_both_file_formats(kind: str, tmp_path: Path) -> None:
    program = import_onnx(_KINDS[kind])
    program = graphopt.PassManager([passes.Cleanup()]).run(program).program
    program.save(tmp_path / "p.pt2")
    again = graphopt.load(tmp_path / "p.pt2")
    assert again.text() == program.text()
    assert again.structural_hash() == program.structural_hash()
    verify(program, again).raise_if_failed()
    program.save(tmp_path / "p.onnx")
    onnx.checker.check_model(tmp_path / "p.onnx", full_check=True)
    verify(program, OnnxRuntimeRunner(tmp_path / "p.onnx")).raise_if_failed()
    verify(program, import_onnx(tmp_path / "p.onnx")).raise_if_failed()
