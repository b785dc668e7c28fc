"""Recurrent layers with torch's equations: LSTM, GRU and plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tvm import relax

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Declined, Expr, Unsupported, shape_of
from graphopt.codegen.relax.dtypes import FLOATS
from graphopt.codegen.relax.recurrent import Cell, Direction, Unit, Vector, recurrence
from graphopt.codegen.relax.registry import converter
from graphopt.codegen.relax.symbols import known
from graphopt.codegen.relax.weights import weight_of

aten = torch.ops.aten


def _lstm_unit(unit: Unit) -> list[Vector]:
    """Gates input, forget, cell, output; states h and c."""
    keep, old = unit.gate(1, s.sigmoid), unit.states[1]
    take, candidate = unit.gate(0, s.sigmoid), unit.gate(2, s.tanh)
    cell = unit.named(lambda lane: keep(lane) * old(lane) + take(lane) * candidate(lane))
    show = unit.gate(3, s.sigmoid)
    return [unit.named(lambda lane: show(lane) * s.tanh(cell(lane))), cell]


def _gru_unit(unit: Unit) -> list[Vector]:
    """Gates reset, update, new; what is reset is the recurrent product with its bias."""
    reset, keep = unit.gate(0, s.sigmoid), unit.gate(1, s.sigmoid)
    inputs, product, (old,) = unit.inputs[2], unit.products[2], unit.states
    total = unit.named(lambda lane: inputs(lane) + reset(lane) * product(lane))
    new = unit.named(lambda lane: s.tanh(total(lane)))
    return [unit.named(lambda lane: new(lane) + keep(lane) * (old(lane) - new(lane)))]


def _relu(x: Any) -> Any:
    return s.maximum(x, s.constant(0, "float32"))


_LSTM = Cell(gates=4, states=2, own_offset=False, update=_lstm_unit)
_GRU = Cell(gates=3, states=1, own_offset=True, update=_gru_unit)
_TANH = Cell(gates=1, states=1, own_offset=False, update=lambda unit: [unit.gate(0, s.tanh)])
_RELU = Cell(gates=1, states=1, own_offset=False, update=lambda unit: [unit.gate(0, _relu)])


def _layers(
    context: Context,
    cell: Cell,
    x: Expr,
    initial: Sequence[Expr],
    biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Expr, ...]:
    """The results of a stack of layers, and each state after its last step.

    Raises:
        Declined: another type or target, weights that are inputs or project the output (``proj_size``).
        Unsupported: these with a symbolic number of steps, which cannot be written out; dropout.
    """
    if train and dropout:
        raise Unsupported("dropout between recurrent layers")
    directions, each = 2 if bidirectional else 1, 4 if biases else 2
    weights = [weight_of(p) for p in context.node.args[2]]  # type: ignore[union-attr]
    matrices = [w for w in weights if w is not None and w.dtype == torch.float32]
    if context.registers is None or [len(matrices)] * 2 != [len(weights), layers * directions * each]:
        if known(shape_of(x)[1 if batch_first else 0]) is None:
            raise Unsupported("a symbolic number of steps, other than in float32 on known weights for a CPU")
        raise Declined
    finals: list[list[Expr]] = [[] for _ in range(cell.states)]
    for layer in range(layers):
        first = layer * directions
        sides = [
            Direction(*matrices[at : at + each], *([None] * (4 - each)))
            for at in range(first * each, (first + directions) * each, each)
        ]
        x, *last = recurrence(context, cell, x, initial, first, sides, batch_first=batch_first)
        for column, state in zip(finals, last, strict=True):
            column.append(state)
    return x, *(_stacked(context, column) for column in finals)


def _stacked(context: Context, states: list[Expr]) -> Expr:
    return states[0] if len(states) == 1 else context.emit(relax.op.concat(states, axis=0))


@converter(aten.lstm.input, dtypes=FLOATS)
def lstm(context: Context, x: Expr, states: list[Expr], _weights: Any, *options: Any) -> tuple[Expr, ...]:
    return _layers(context, _LSTM, x, states, *options)


def _register(target: Any, cell: Cell) -> None:
    @converter(target, dtypes=FLOATS)
    def convert(context: Context, x: Expr, state: Expr, _weights: Any, *options: Any) -> tuple[Expr, ...]:
        return _layers(context, cell, x, [state], *options)


_register(aten.gru.input, _GRU)
_register(aten.rnn_tanh.input, _TANH)
_register(aten.rnn_relu.input, _RELU)
