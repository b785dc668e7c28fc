"""Programs: what capture makes of a graph, text, hash, copies, running."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from graphopt import InputError, Program, capture
from graphopt.ir.provenance import origin


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("shift", torch.arange(4.0))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": self.a(x) + self.b(y) + self.shift, "x": x.mT}


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return x * self.count


def tied(dynamic: bool = True) -> Program:
    shapes = ({0: "rows"}, {0: "rows"}) if dynamic else None
    return capture(Tied().eval(), (torch.randn(3, 4), torch.randn(3, 4)), dynamic_shapes=shapes)


GOLDEN = """\
program(x: float32[rows, 4], y: float32[rows, 4]) @ torch
  where rows in [1, ∞]
  @a.bias: float32[4]
  @b.weight: float32[4, 4]
  @b.bias: float32[4]
  @shift: float32[4]
  %0 = aten.linear(%x, @b.weight, @a.bias) : f32[rows, 4]  # a
  %1 = aten.linear(%y, @b.weight, @b.bias) : f32[rows, 4]  # b
  %2 = aten.add(%0, %1) : f32[rows, 4]
  %3 = aten.add(%2, @shift) : f32[rows, 4]
  %4 = aten.mT(%x) : f32[4, rows]
  return sum=%3, x=%4
"""


def test_text_is_stable() -> None:
    assert tied().text(layers=True) == GOLDEN
    assert str(tied()) == str(tied())


def test_names_come_from_the_module() -> None:
    program = tied()
    assert [s.name for s in program.signature.inputs] == ["x", "y"]
    assert [s.name for s in program.signature.outputs] == ["sum", "x"]


def test_one_program_runs_at_many_sizes() -> None:
    module, program = Tied().eval(), None
    program = capture(module, (torch.randn(3, 4), torch.randn(3, 4)), dynamic_shapes=({0: "n"}, {0: "n"}))
    for n in (1, 2, 7):
        x, y = torch.randn(n, 4), torch.randn(n, 4)
        want = module(x, y)
        got = program(x, y)
        assert torch.equal(got[0], want["sum"]) and torch.equal(got[1], want["x"])


def test_shared_weights_are_one() -> None:
    assert set(tied().constants) == {"a.bias", "b.weight", "b.bias", "shift"}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((torch.zeros(3, 4),), "takes 2 inputs"),
        ((torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.float64)), "'y' must be float32"),
        ((torch.zeros(3, 5), torch.zeros(3, 4)), "axis 1 must be 4, not 5"),
        ((torch.zeros(3, 4), torch.zeros(2, 4)), "elsewhere rows = 3"),
        ((torch.zeros(3, 4), torch.zeros(3)), "2 dimensions, not 1"),
        ((torch.zeros(3, 4), [1.0]), "must be a tensor, not list"),
    ],
)
def test_wrong_inputs_are_named(inputs: tuple[torch.Tensor, ...], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        tied()(*inputs)
    assert caught.value.code == "GO-3010"


def test_state_becomes_explicit() -> None:
    program = capture(Counter().eval(), (torch.ones(2),))
    assert [s.name for s in program.signature.inputs] == ["x", "count"]
    assert dict(program.signature.state) == {"count_out": "count"}
    out, count = program(torch.ones(2), torch.zeros(2))
    out, count = program(torch.ones(2), count)
    assert count.tolist() == [2.0, 2.0] and out.tolist() == [2.0, 2.0]


def test_hash_ignores_names_and_order_but_nothing_else() -> None:
    torch.manual_seed(0)
    module = Tied().eval()
    args = (torch.randn(3, 4), torch.randn(3, 4))
    first, second = capture(module, args), capture(module, args)
    for n in list(second.graph.nodes):
        if n.op == "call_function":
            n.name = n.name + "_renamed"
    matrix_transpose = next(n for n in second.graph.nodes if n.target is torch.ops.aten.mT.default)
    next(n for n in second.graph.nodes if n.op == "call_function").prepend(matrix_transpose)
    assert first.structural_hash() == second.structural_hash()
    with torch.no_grad():
        module.a.bias[0] += 1
    third = capture(module, args)
    third.graph_module  # noqa: B018  shares the changed weight with the first
    other = capture(Tied().eval(), args)
    assert other.structural_hash(weights=False) == first.structural_hash(weights=False)
    assert other.structural_hash() != first.structural_hash()
    n = next(n for n in second.graph.nodes if n.target is torch.ops.aten.add.Tensor)
    n.target = torch.ops.aten.sub.Tensor
    assert second.structural_hash(weights=False) != first.structural_hash(weights=False)


def test_untied_weights_have_another_hash() -> None:
    module = Tied().eval()
    args = (torch.randn(3, 4), torch.randn(3, 4))
    before = capture(module, args).structural_hash()
    module.b.weight = nn.Parameter(module.a.weight.detach().clone())
    assert capture(module, args).structural_hash() != before


def test_a_copy_has_its_own_graph_and_the_same_weights() -> None:
    program = tied()
    copy = program.copy()
    assert copy.structural_hash() == program.structural_hash()
    assert copy.constant("shift") is program.constant("shift")
    copy.graph.erase_node(next(n for n in reversed(copy.graph.nodes) if n.op == "output"))
    program.check()


def test_no_grad_and_dropout_regions_disappear() -> None:
    class Regions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                y = x.cos()
            return y + x

    program = capture(Regions().eval(), (torch.ones(2),))
    assert [str(n.target) for n in program.operator_nodes()] == ["aten.cos.default", "aten.add.Tensor"]


def test_in_place_operators_are_made_pure() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(x)
            y.relu_()
            y[:, 0] = 0.0
            return y

    module = InPlace().eval()
    x = torch.randn(1, 3, 4, 4)
    program = capture(module, (x,)).check()
    assert torch.equal(program(x)[0], module(x))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Dropout(), "training mode"),
        (nn.Linear(3, 3).eval(), "cannot capture Linear"),
    ],
)
def test_what_cannot_be_captured_is_said(module: nn.Module, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        capture(module, (torch.ones(2),))
    assert caught.value.code == "GO-3007"


def test_data_dependent_control_flow_is_said() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(InputError) as caught:
        capture(Branch().eval(), (torch.ones(2),))
    assert "x.sum() > 0" in (caught.value.layer or "")


def test_hand_built_graphs() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_function(torch.ops.aten.relu.default, (x,))
    graph.output((y,))
    program = Program.from_graph_module(fx.GraphModule(nn.Module(), graph), [torch.randn(2, 3)]).check()
    assert program.signature.outputs[0].shape == (2, 3)
    assert origin(y).layers == ()
    with pytest.raises(InputError, match="2 were given"):
        Program.from_graph_module(fx.GraphModule(nn.Module(), graph), [torch.ones(1), torch.ones(1)])


def test_an_axis_that_the_model_fixes_is_noted() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(3, 4)

    program = capture(Fixed().eval(), (torch.randn(12),), dynamic_shapes=({0: "length"},))
    assert any("'length'" in note and "12" in note for note in program.notes)
