"""Recurrent layers: one kernel for all steps, for sizes that fill no vector and sizes that are not known."""

from typing import Any

import pytest
import torch
from torch import nn

import graphopt
from graphopt.codegen import Artifact
from graphopt.codegen.relax import recurrent
from graphopt.codegen.relax.converters import recurrent as converters
from graphopt.errors import InputError, VerificationError
from graphopt.verification import verify


def compiled(module: nn.Module, *inputs: torch.Tensor, dynamic: Any = None) -> Artifact:
    program = graphopt.capture(module.eval(), inputs, dynamic_shapes=dynamic)
    artifact = graphopt.compile(program)
    verify(program, artifact, draws=3 if dynamic else 1, runs=4).raise_if_failed()
    return artifact


def rules(artifact: Artifact) -> list[str]:
    return [kernel.rule for kernel in artifact.kernels()]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("hidden", "batch", "steps"), [(1, 1, 1), (16, 4, 5), (19, 13, 3), (48, 7, 2)])
def test_layers_in_one_kernel(kind: type[nn.RNNBase], hidden: int, batch: int, steps: int) -> None:
    layer = kind(9, hidden, bidirectional=hidden == 19, batch_first=batch == 4, bias=hidden != 16)
    shape = (batch, steps) if layer.batch_first else (steps, batch)
    assert rules(compiled(layer, torch.randn(*shape, 9))).count("recurrence") == 1


def test_stacked_layers_begin_where_they_are_told() -> None:
    layer = nn.LSTM(6, 20, num_layers=2, bidirectional=True)

    class Started(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
            return self.layer(x, (h, c))

    artifact = compiled(Started(), torch.randn(5, 3, 6), torch.randn(4, 3, 20), torch.randn(4, 3, 20))
    assert rules(artifact).count("recurrence") == 2


def test_large_layers_share_their_units_among_cores() -> None:
    assert "recurrence" in rules(compiled(nn.LSTM(8, 270, bidirectional=True), torch.randn(3, 3, 8)))


def test_relu() -> None:
    assert "recurrence" in rules(compiled(nn.RNN(4, 21, nonlinearity="relu"), torch.randn(6, 2, 4)))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_lengths_and_batches_that_are_not_known(kind: type[nn.RNNBase]) -> None:
    layer = kind(6, 20, bidirectional=True, batch_first=True).eval()
    x = torch.randn(3, 5, 6)
    artifact = compiled(layer, x, dynamic=({0: "batch", 1: "steps"},))
    assert rules(artifact).count("recurrence") == 1
    for shape in [(1, 1), (9, 2), (4, 30)]:
        x = torch.randn(*shape, 6)
        assert artifact(x)[0].shape == layer(x)[0].shape


def test_kernels_do_not_grow_with_steps() -> None:
    few, many = (rules(compiled(nn.GRU(4, 16), torch.randn(steps, 1, 4))) for steps in (2, 300))
    assert len(few) == len(many)


def test_other_types_are_written_out() -> None:
    assert "recurrence" not in rules(compiled(nn.GRU(4, 8).double(), torch.randn(2, 3, 4).double()))


def test_projected_outputs_are_written_out() -> None:
    assert "recurrence" not in rules(compiled(nn.LSTM(4, 8, proj_size=3), torch.randn(2, 3, 4)))


def test_other_types_need_a_known_number_of_steps() -> None:
    layer = nn.GRU(4, 8).double().eval()
    program = graphopt.capture(layer, (torch.randn(3, 2, 4).double(),), dynamic_shapes=({0: "steps"},))
    with pytest.raises(InputError, match="symbolic number of steps") as caught:
        graphopt.compile(program)
    assert caught.value.code == "GO-3005"


def _wrong_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(unit: recurrent.Unit) -> list[recurrent.Vector]:
        unit.inputs, unit.products = unit.inputs[::-1], unit.products[::-1]
        return converters._lstm_unit(unit)

    monkeypatch.setattr(converters, "_LSTM", recurrent.Cell(4, 2, False, update))


def _stale_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """One buffer of outputs, which units overwrite while others still read."""
    original = recurrent.tirx.floormod
    monkeypatch.setattr(
        recurrent.tirx, "floormod", lambda a, b: 0 * original(a, b) if b == 2 else original(a, b)
    )


def _lost_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    original = recurrent._Kernel._tiles
    monkeypatch.setattr(recurrent._Kernel, "_tiles", lambda self: original(self)[:1])


@pytest.mark.parametrize("spoil", [_wrong_gate, _stale_state, _lost_rows])
def test_a_wrong_kernel_is_found(spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch)
    with pytest.raises(VerificationError):
        compiled(nn.LSTM(6, 40), torch.randn(4, 7, 6))
