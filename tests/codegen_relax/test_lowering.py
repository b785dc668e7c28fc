"""What ``lower`` promises beside the converters: symbols, names, weights, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
import torch
import tvm
from torch import nn
from torch.export import Dim
from tvm import relax

from graphopt.codegen.relax import converter_table, lower, register_converter
from graphopt.codegen.relax.symbols import SymbolTable, UnboundSymbol
from graphopt.errors import InputError, InternalError, UsageError
from graphopt.ir.program import Program

aten = torch.ops.aten


def capture(module: nn.Module, *inputs: torch.Tensor, dynamic: bool = False) -> Program:
    shapes = tuple({k: Dim.AUTO for k in range(x.ndim)} for x in inputs) if dynamic else None
    return Program.from_exported(torch.export.export(module.eval(), inputs, dynamic_shapes=shapes))


class Sequence(nn.Module):
    """Ops whose results depend on sizes as numbers, not as shapes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        positions = torch.arange(length)
        mask = positions[None, :] <= positions[:, None]
        scores = x @ x.transpose(1, 2) / length**0.5
        return torch.softmax(scores.masked_fill(~mask, float("-inf")), -1).cumsum(1)[:, -1] + length // 2


def compiled(program: Program):
    target = tvm.target.Target({"kind": "llvm", "opt-level": 1, "num-cores": 1})
    return relax.VirtualMachine(tvm.compile(lower(program).mod, target=target), tvm.cpu())


def test_a_dynamic_sequence_compiles_and_runs_at_other_lengths() -> None:
    from graphopt.verification import verify

    program = capture(Sequence(), torch.randn(2, 5, 4), dynamic=True)
    machine = compiled(program)

    def run(x: torch.Tensor) -> list[torch.Tensor]:
        return [torch.from_dlpack(y) for y in machine["main"](tvm.runtime.from_dlpack(x))]

    sizes = [
        dict(zip(program.signature.dims, (2, 5, 4), strict=False)),
        dict(zip(program.signature.dims, (3, 9, 4), strict=False)),
    ]
    report = verify(program, run, shapes=sizes)
    report.raise_if_failed()
    assert len(report.draws) >= 2


def test_main_takes_the_inputs_and_returns_a_tuple_in_the_signature_s_names() -> None:
    program = capture(nn.Linear(4, 3), torch.randn(2, 4), dynamic=False)
    lowered = lower(program)
    main = lowered.mod["main"]
    assert [p.name for p in main.params] == [i.name for i in program.signature.inputs]
    assert isinstance(main.body.ty, relax.TupleType)
    assert lowered.signature is program.signature


def test_symbols_carry_the_signature_s_names_and_ranges() -> None:
    exported = torch.export.export(
        nn.ReLU(), (torch.randn(2, 4),), dynamic_shapes=({0: Dim("batch", min=1, max=16)},)
    )
    program = Program.from_exported(exported, dim_names={(0, 0): "batch"})
    main = lower(program).mod["main"]
    size = main.params[0].ty.shape.values[0]
    assert size.name == "batch"
    assert int(main.attrs["tir_var_upper_bound"]["batch"]) == 16


def test_int64_weights_are_not_narrowed() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("big", torch.tensor([2**40, -(2**50)]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.big

    machine = compiled(capture(Table(), torch.ones(2, dtype=torch.int64)))
    result = machine["main"](tvm.runtime.tensor(np.ones(2, "int64")))[0].numpy()
    assert result.tolist() == [2**40 + 1, -(2**50) + 1]


def test_unsupported_operators_are_listed_all_at_once() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Cholesky(), Inverse()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    class Cholesky(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.cholesky(x @ x.T)

    class Inverse(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvalsh(x)

    with pytest.raises(InputError) as caught:
        lower(capture(Two(), torch.randn(3, 3)))
    text = str(caught.value)
    assert caught.value.code == "GO-3005"
    assert "cholesky" in text and "eigh" in text
    assert "first" in text and "second" in text


def test_a_dtype_that_a_converter_does_not_claim_is_refused() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output((graph.call_function(aten.gelu.default, (x,)),))
    program = Program.from_graph_module(torch.fx.GraphModule(nn.Module(), graph), [torch.randn(3)])
    program.graph_module.graph.find_nodes(op="placeholder")
    fake = next(iter(program.graph.nodes))
    fake.meta["val"] = fake.meta["val"].to(torch.int64)
    with pytest.raises(InputError, match="gelu.*not for int64"):
        lower(program)


def test_training_mode_batch_norm_is_refused() -> None:
    class Norm(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.batch_norm(x, None, None, training=True)

    with pytest.raises(InputError, match="training mode"):
        lower(capture(Norm(), torch.randn(4, 3, 2)))


def test_a_size_that_depends_on_data_is_refused() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nonzero(x)

    with pytest.raises(InputError, match="no converter|depends on data"):
        lower(capture(Masked(), torch.randn(4)))


def test_a_converter_that_contradicts_the_program_is_an_internal_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from graphopt.codegen.relax import registry

    table = dict(converter_table())
    entry = table[aten.relu.default]
    wrong = registry.Converter(aten.relu.default, lambda c, x: c.reshape(x, [8]), entry.dtypes)
    monkeypatch.setitem(registry._TABLE, aten.relu.default, wrong)
    with pytest.raises(InternalError, match="relu") as caught:
        lower(capture(nn.ReLU(), torch.randn(2, 4)))
    assert caught.value.code == "GO-1001" and caught.value.node


def test_a_second_converter_for_an_operator_is_an_error() -> None:
    converter_table()
    with pytest.raises(UsageError, match="two Relax converters"):
        register_converter(aten.relu.default, lambda c, x: x)


def test_the_table_has_no_operator_of_tvm_s_importers() -> None:
    import sys

    lower(capture(nn.ReLU(), torch.randn(2)))
    assert "tvm.s_tir.tensor_intrin" not in sys.modules


_a, _b = sympy.Symbol("a", integer=True, positive=True), sympy.Symbol("b", integer=True, positive=True)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (2 * _a + _b - 3, lambda a, b: 2 * a + b - 3),
        (_a**2 * _b, lambda a, b: a * a * b),
        (sympy.floor(_a / 3), lambda a, b: a // 3),
        (sympy.Mod(_a, 4), lambda a, b: a % 4),
        (sympy.Max(_a, _b, 5), lambda a, b: max(a, b, 5)),
        (sympy.Min(_a, _b), min),
        (sympy.ceiling(_a / 4), lambda a, b: -(-a // 4)),
        (sympy.Rational(1, 2) * (2 * _a), lambda a, b: a),
        (sympy.Integer(7), lambda a, b: 7),
    ],
    ids=lambda v: None if callable(v) else str(v),
)
def test_expressions_translate(expression: sympy.Expr, expected) -> None:
    from tvm import tirx

    table = SymbolTable({})
    sizes = {table.define(_a): 11, table.define(_b): 6}
    value = table.expression(expression)
    if not isinstance(value, int):
        for variable, size in sizes.items():
            table.analyzer.bind(variable, tirx.IntImm("int64", size))
        value = int(table.analyzer.simplify(value).value)
    assert value == expected(11, 6)


def test_an_undefined_symbol_is_reported() -> None:
    with pytest.raises(UnboundSymbol):
        SymbolTable({}).expression(_a)


class Rotary(nn.Module):
    """The rotary embedding of DeepSeek-V2, by complex numbers."""

    def forward(self, x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        turns = torch.polar(torch.ones_like(angles), angles) * 0.5
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns.unsqueeze(1)).flatten(3)


def test_complex_intermediates_are_pairs() -> None:
    from graphopt.verification import verify

    program = capture(Rotary(), torch.randn(2, 3, 5, 8), torch.randn(2, 5, 4))
    machine = compiled(program)

    def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
        return [torch.from_dlpack(y) for y in machine["main"](*(tvm.runtime.from_dlpack(x) for x in inputs))]

    verify(program, run).raise_if_failed()


def test_complex_results_are_refused() -> None:
    class Polar(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.polar(x, x)

    with pytest.raises(InputError, match="complex"):
        lower(capture(Polar(), torch.rand(3)))
