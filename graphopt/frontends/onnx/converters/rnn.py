"""Recurrent layers: torch's own where it has the same equations, else cells, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from graphopt._torch import statically_known_true
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.rnn_cells import (
    Activation,
    State,
    Step,
    Weights,
    activations,
    clipping,
    gru_step,
    lstm_step,
    rnn_step,
    run_cell,
)
from graphopt.frontends.onnx.registry import VALUE, op
from graphopt.frontends.onnx.values import HostValue, Value

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_KINDS = {4: VALUE}
_IGNORED = ("activation_alpha", "activation_beta", "hidden_size", "output_sequence")
"""The shape of R gives the size; an output that has no name is not computed."""
_SATURATED = 1e4
"""A gate's sigmoid is exactly 0 or 1 here, in every float type."""


class _Layer:
    """What RNN, GRU and LSTM nodes have in common.

    X [S, B, I] (layout 0) or [B, S, I] (layout 1); W [directions, gates*H, I]; R [directions, gates*H, H];
    B [directions, 2*gates*H]; lengths [B].
    """

    def __init__(
        self,
        call: Call,
        x: torch.Tensor,
        w: torch.Tensor,
        r: torch.Tensor,
        b: torch.Tensor | None,
        lengths: Value,
    ) -> None:
        self.call = call
        self.direction = call.str("direction", "forward")
        if self.direction not in _DIRECTIONS:
            raise call.error(f"has the direction {self.direction!r}")
        self.directions = _DIRECTIONS[self.direction]
        self.hidden = r.shape[2]
        self.layout = call.int("layout", 0)
        self.x = x.transpose(0, 1) if self.layout else x
        self.w, self.r = w, r
        self.b = b
        known = None if lengths is None else call.host(4)
        whole = lengths is None or (known is not None and _all_full(known, self.x))
        self.lengths = None if whole else call.as_tensor(lengths, "sequence_lens").to(torch.int64)

    # -- parameters --------------------------------------------------------------------------

    def activation_names(self, default: list[str]) -> list[str]:
        given = self.call.strings("activations")
        return given if given else default * self.directions

    def initial(self, given: torch.Tensor | None) -> torch.Tensor:
        """[directions, B, H]"""
        if given is None:
            shape = [self.directions, self.x.shape[1], self.hidden]
            return torch.zeros(shape, dtype=self.x.dtype, device=self.x.device)
        return given.transpose(0, 1) if self.layout else given

    def weights(self, direction: int, peepholes: torch.Tensor | None = None) -> Weights:
        rows = self.w.shape[1]
        bias = self.x.new_zeros(2 * rows) if self.b is None else self.b[direction]
        p = None if peepholes is None else peepholes[direction]
        return Weights(self.w[direction], self.r[direction], bias[:rows], bias[rows:], p)

    def flat_weights(self, order: list[int], directions: range) -> list[torch.Tensor]:
        """torch's list of weights, with the gates in torch's order."""
        flat: list[torch.Tensor] = []
        half = len(order) * self.hidden
        for d in directions:
            flat += [_gates(self.w[d], order), _gates(self.r[d], order)]
            if self.b is not None:
                flat += [_gates(self.b[d][:half], order), _gates(self.b[d][half:], order)]
        return flat

    # -- running -----------------------------------------------------------------------------

    def backwards(self, direction: int) -> bool:
        return self.direction == "reverse" or direction == 1

    def reversed(self, x: torch.Tensor) -> torch.Tensor:
        """[S, B, ...] with the order of steps reversed within the length of each sequence."""
        if self.lengths is None:
            return x.flip(0)
        step = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        index = torch.where(step < self.lengths, self.lengths - 1 - step, step)
        return x.gather(0, index.unsqueeze(2).expand(x.shape))

    def stepwise(
        self, cells: list[Step], initial: list[torch.Tensor], peepholes: torch.Tensor | None = None
    ) -> Any:
        """Runs a cell for each direction, step by step."""
        outputs, finals = [], []
        for d, cell in enumerate(cells):
            x = self.reversed(self.x) if self.backwards(d) else self.x
            state = tuple(s[d] for s in initial)
            y, state = run_cell(cell, self.weights(d, peepholes), x, state, self.lengths)
            outputs.append(self.reversed(y) if self.backwards(d) else y)
            finals.append(state)
        return self.results(torch.stack(outputs, dim=1), finals)

    def results(self, y: torch.Tensor, finals: list[State]) -> Any:
        """Y [S, directions, B, H] and states, in the node's layout."""
        states = [torch.stack(list(column)) for column in zip(*finals, strict=True)]
        if self.layout:
            return y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in states)
        return y, *states

    def native(self, run: Callable[..., Any], order: list[int], initial: list[torch.Tensor]) -> Any:
        """torch's layer: ``run(x, states, weights, bidirectional)`` gives y and the states."""
        if self.lengths is not None:
            return self._native_by_length(run, order, initial)
        x = self.x.flip(0) if self.direction == "reverse" else self.x
        weights = self.flat_weights(order, range(self.directions))
        y, *states = run(x, initial, weights, self.directions == 2)
        y = y.flip(0) if self.direction == "reverse" else y
        y = y.reshape(y.shape[0], y.shape[1], self.directions, self.hidden).permute(0, 2, 1, 3)
        return self.results(y, [tuple(s[d] for s in states) for d in range(self.directions)])

    def _native_by_length(
        self, run: Callable[..., Any], order: list[int], initial: list[torch.Tensor]
    ) -> Any:
        """One direction after the other over the whole length; what lies beyond each sequence is cut.

        An LSTM's cell state must survive the steps beyond: a further input of 1 there opens the forget gate
        and closes the input gate, exactly, by weights of its own.
        """
        assert self.lengths is not None
        step = torch.arange(self.x.shape[0], device=self.x.device).unsqueeze(1)
        beyond = (step >= self.lengths).unsqueeze(2)
        last = (self.lengths - 1).clamp(min=0).reshape(1, -1, 1)
        outputs, finals = [], []
        for d in range(self.directions):
            x = self.reversed(self.x) if self.backwards(d) else self.x
            w, *rest = self.flat_weights(order, range(d, d + 1))
            if len(initial) == 2:
                x = torch.cat([x, beyond.to(x.dtype)], dim=2)
                hold = x.new_zeros([4, self.hidden])
                hold = torch.cat([hold[:1] - _SATURATED, hold[:1] + _SATURATED, hold[2:]])
                w = torch.cat([w, hold.reshape(-1, 1)], dim=1)
            y, *states = run(x, [s[d : d + 1] for s in initial], [w, *rest], False)
            ended = y.gather(0, last.expand(1, y.shape[1], y.shape[2])).squeeze(0)
            empty = (self.lengths == 0).unsqueeze(1)
            finals.append((torch.where(empty, initial[0][d], ended), *(s[0] for s in states[1:])))
            y = torch.where(beyond, torch.zeros_like(y), y)
            outputs.append(self.reversed(y) if self.backwards(d) else y)
        return self.results(torch.stack(outputs, dim=1), finals)


def _all_full(lengths: HostValue, x: torch.Tensor) -> bool:
    return all(statically_known_true(n == x.shape[0]) for n in lengths.numbers())


def _gates(matrix: torch.Tensor, order: list[int]) -> torch.Tensor:
    parts = matrix.chunk(len(order), dim=0)
    return matrix if len(order) == 1 else torch.cat([parts[i] for i in order], dim=0)


def _cells(
    layer: _Layer, names: list[str], make: Callable[..., Step], clip: Activation, *more: Any
) -> list[Step]:
    """A cell for each direction; ``names`` lists the activations of all of them."""
    functions = activations(layer.call, names)
    count = len(functions) // layer.directions
    return [make(functions[d * count : (d + 1) * count], clip, *more) for d in range(layer.directions)]


@op("LSTM", since=1, kinds=_KINDS, ignores=_IGNORED)
def lstm(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: Value = None,
    h0: torch.Tensor | None = None,
    c0: torch.Tensor | None = None,
    peepholes: torch.Tensor | None = None,
) -> Any:
    """Gates in ONNX: input, output, forget, cell; in torch: input, forget, cell, output."""
    layer = _Layer(call, x, w, r, b, lengths)
    initial = [layer.initial(h0), layer.initial(c0)]
    default = ["Sigmoid", "Tanh", "Tanh"]
    names, clip, coupled = layer.activation_names(default), call.float("clip"), call.flag("input_forget")
    if names != default * layer.directions or clip is not None or coupled or peepholes is not None:
        return layer.stepwise(_cells(layer, names, lstm_step, clipping(clip), coupled), initial, peepholes)

    def run(x: torch.Tensor, states: Any, weights: Any, both: bool) -> Any:
        return torch.lstm(x, states, weights, b is not None, 1, 0.0, False, both, False)

    return layer.native(run, [0, 2, 3, 1], initial)


@op("GRU", since=1, kinds=_KINDS, ignores=_IGNORED)
def gru(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: Value = None,
    h0: torch.Tensor | None = None,
) -> Any:
    """Gates in ONNX: update, reset, hidden; in torch: reset, update, hidden."""
    layer = _Layer(call, x, w, r, b, lengths)
    initial = [layer.initial(h0)]
    default = ["Sigmoid", "Tanh"]
    names, clip = layer.activation_names(default), call.float("clip")
    reset_last = call.flag("linear_before_reset")
    if names != default * layer.directions or clip is not None or not reset_last:
        return layer.stepwise(_cells(layer, names, gru_step, clipping(clip), reset_last), initial)

    def run(x: torch.Tensor, states: Any, weights: Any, both: bool) -> Any:
        return torch.gru(x, states[0], weights, b is not None, 1, 0.0, False, both, False)

    return layer.native(run, [1, 0, 2], initial)


@op("RNN", since=1, kinds=_KINDS, ignores=_IGNORED)
def rnn(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: Value = None,
    h0: torch.Tensor | None = None,
) -> Any:
    layer = _Layer(call, x, w, r, b, lengths)
    initial = [layer.initial(h0)]
    names, clip = layer.activation_names(["Tanh"]), call.float("clip")
    if clip is not None or len(set(names)) != 1 or names[0] not in ("Tanh", "Relu"):
        return layer.stepwise(_cells(layer, names, rnn_step, clipping(clip)), initial)
    function = torch.rnn_tanh if names[0] == "Tanh" else torch.rnn_relu

    def run(x: torch.Tensor, states: Any, weights: Any, both: bool) -> Any:
        return function(x, states[0], weights, b is not None, 1, 0.0, False, both, False)

    return layer.native(run, [0], initial)
