"""Recurrent layers, for which torch has the same equations with other gate orders."""

from __future__ import annotations

from typing import Any

import torch

from graphopt._torch import statically_known_true
from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import HOST, op
from graphopt.frontends.onnx.values import HostValue

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class _Layer:
    """Common parts of RNN, GRU and LSTM nodes.

    X [S, B, I] (layout 0) or [B, S, I] (layout 1); W [directions, gates*H, I]; R [directions, gates*H, H];
    B [directions, 2*gates*H].
    """

    def __init__(
        self,
        call: Call,
        x: torch.Tensor,
        w: torch.Tensor,
        r: torch.Tensor,
        b: torch.Tensor | None,
        lengths: HostValue | None,
    ) -> None:
        self.call = call
        self.direction = call.str("direction", "forward")
        self.directions = _DIRECTIONS[self.direction]
        self.hidden = r.shape[2]
        self.layout = call.int("layout", 0)
        self.x = x.transpose(0, 1) if self.layout else x
        self.w, self.r, self.b = w, r, b
        if lengths is not None and not _all_full(lengths, self.x):
            raise call.error("has sequences of different lengths")
        if call.has("clip"):
            raise call.error("clips its cell inputs")

    def activations(self, default: list[str]) -> list[str]:
        given = self.call.node.attributes.get("activations")
        names = [str(a) for a in given.value] if given is not None else default * self.directions
        if self.call.has("activation_alpha") or self.call.has("activation_beta"):
            raise self.call.error("has parametrised activations")
        return names

    def reordered(self, order: list[int]) -> list[torch.Tensor]:
        """torch's flat list of weights, with the gates in torch's order."""
        flat: list[torch.Tensor] = []
        gates = len(order)
        for d in range(self.directions):
            flat += [_gates(self.w[d], order), _gates(self.r[d], order)]
            if self.b is not None:
                half = gates * self.hidden
                flat += [_gates(self.b[d][:half], order), _gates(self.b[d][half:], order)]
        return flat

    def initial(self, given: torch.Tensor | None) -> torch.Tensor:
        if given is None:
            shape = [self.directions, self.x.shape[1], self.hidden]
            return torch.zeros(shape, dtype=self.x.dtype, device=self.x.device)
        return given.transpose(0, 1) if self.layout else given

    @property
    def source(self) -> torch.Tensor:
        return self.x.flip(0) if self.direction == "reverse" else self.x

    def output(self, y: torch.Tensor) -> torch.Tensor:
        """[S, B, directions*H] -> [S, directions, B, H] (layout 1: [B, S, directions, H])."""
        if self.direction == "reverse":
            y = y.flip(0)
        y = y.reshape(y.shape[0], y.shape[1], self.directions, self.hidden)
        return y.permute(1, 0, 2, 3) if self.layout else y.permute(0, 2, 1, 3)

    def state(self, h: torch.Tensor) -> torch.Tensor:
        return h.transpose(0, 1) if self.layout else h


def _all_full(lengths: HostValue, x: torch.Tensor) -> bool:
    return all(statically_known_true(n == x.shape[0]) for n in lengths.numbers())


def _gates(matrix: torch.Tensor, order: list[int]) -> torch.Tensor:
    parts = matrix.chunk(len(order), dim=0)
    return matrix if len(order) == 1 else torch.cat([parts[i] for i in order], dim=0)


_LENGTHS = {4: HOST}
_IGNORED = ("hidden_size", "output_sequence")
"""The shape of R gives the size; an output that has no name is not computed."""


@op("LSTM", since=1, kinds=_LENGTHS, ignores=_IGNORED)
def lstm(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: HostValue | None = None,
    h0: torch.Tensor | None = None,
    c0: torch.Tensor | None = None,
    peepholes: torch.Tensor | None = None,
) -> Any:
    """Gates in ONNX: input, output, forget, cell; in torch: input, forget, cell, output."""
    layer = _Layer(call, x, w, r, b, lengths)
    if layer.activations(["Sigmoid", "Tanh", "Tanh"]) != ["Sigmoid", "Tanh", "Tanh"] * layer.directions:
        raise call.error("has other activations than sigmoid and tanh")
    if call.flag("input_forget"):
        raise call.error("couples input and forget gates")
    if peepholes is not None:
        return _peephole_lstm(layer, h0, c0, peepholes)
    y, h, c = torch.lstm(
        layer.source,
        (layer.initial(h0), layer.initial(c0)),
        layer.reordered([0, 2, 3, 1]),
        b is not None,
        1,
        0.0,
        False,
        layer.directions == 2,
        False,
    )
    return layer.output(y), layer.state(h), layer.state(c)


def _peephole_lstm(
    layer: _Layer, h0: torch.Tensor | None, c0: torch.Tensor | None, peepholes: torch.Tensor
) -> Any:
    """Step by step; for a known number of steps."""
    steps = layer.x.shape[0]
    if not isinstance(steps, int):
        raise layer.call.error("has peepholes and a dynamic length")
    all_h, all_c = layer.initial(h0), layer.initial(c0)
    outputs, last_h, last_c = [], [], []
    for d in range(layer.directions):
        backwards = layer.direction == "reverse" or d == 1
        h, c = all_h[d], all_c[d]
        p_i, p_o, p_f = peepholes[d].chunk(3)
        bias = 0 if layer.b is None else sum(layer.b[d].chunk(2))
        column: list[Any] = [None] * steps
        for t in reversed(range(steps)) if backwards else range(steps):
            gates = layer.x[t] @ layer.w[d].t() + h @ layer.r[d].t() + bias
            i, o, f, g = gates.chunk(4, dim=-1)
            i, f = torch.sigmoid(i + p_i * c), torch.sigmoid(f + p_f * c)
            c = f * c + i * torch.tanh(g)
            h = torch.sigmoid(o + p_o * c) * torch.tanh(c)
            column[t] = h
        outputs.append(torch.stack(column))
        last_h.append(h)
        last_c.append(c)
    y = torch.stack(outputs, dim=1)
    y = y.permute(2, 0, 1, 3) if layer.layout else y
    return y, layer.state(torch.stack(last_h)), layer.state(torch.stack(last_c))


@op("GRU", since=1, kinds=_LENGTHS, ignores=_IGNORED)
def gru(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: HostValue | None = None,
    h0: torch.Tensor | None = None,
) -> Any:
    """Gates in ONNX: update, reset, hidden; in torch: reset, update, hidden."""
    layer = _Layer(call, x, w, r, b, lengths)
    if layer.activations(["Sigmoid", "Tanh"]) != ["Sigmoid", "Tanh"] * layer.directions:
        raise call.error("has other activations than sigmoid and tanh")
    if not call.flag("linear_before_reset"):
        return _reset_first_gru(layer, h0)
    y, h = torch.gru(
        layer.source,
        layer.initial(h0),
        layer.reordered([1, 0, 2]),
        b is not None,
        1,
        0.0,
        False,
        layer.directions == 2,
        False,
    )
    return layer.output(y), layer.state(h)


def _reset_first_gru(layer: _Layer, h0: torch.Tensor | None) -> Any:
    """The reset gate before the matrix product, which torch's GRU lacks; step by step."""
    steps = layer.x.shape[0]
    if not isinstance(steps, int):
        raise layer.call.error("resets before the product (linear_before_reset=0) and has a dynamic length")
    initial = layer.initial(h0)
    outputs, last = [], []
    for d in range(layer.directions):
        backwards = layer.direction == "reverse" or d == 1
        h = initial[d]
        r_z, r_r, r_h = layer.r[d].chunk(3)
        bias = layer.b[d] if layer.b is not None else layer.x.new_zeros(6 * layer.hidden)
        b_w, b_r = bias.chunk(2)
        b_rz, b_rr, b_rh = b_r.chunk(3)
        column: list[Any] = [None] * steps
        for t in reversed(range(steps)) if backwards else range(steps):
            z, reset, n = (layer.x[t] @ layer.w[d].t() + b_w).chunk(3, dim=-1)
            z = torch.sigmoid(z + h @ r_z.t() + b_rz)
            reset = torch.sigmoid(reset + h @ r_r.t() + b_rr)
            n = torch.tanh(n + (reset * h) @ r_h.t() + b_rh)
            h = (1 - z) * n + z * h
            column[t] = h
        outputs.append(torch.stack(column))
        last.append(h)
    y = torch.stack(outputs, dim=1)
    y = y.permute(2, 0, 1, 3) if layer.layout else y
    return y, layer.state(torch.stack(last))


@op("RNN", since=1, kinds=_LENGTHS, ignores=_IGNORED)
def rnn(
    call: Call,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None = None,
    lengths: HostValue | None = None,
    h0: torch.Tensor | None = None,
) -> Any:
    layer = _Layer(call, x, w, r, b, lengths)
    kinds = set(layer.activations(["Tanh"]))
    if len(kinds) != 1 or not kinds <= {"Tanh", "Relu"}:
        raise call.error("has other activations than tanh or relu")
    function = torch.rnn_tanh if kinds == {"Tanh"} else torch.rnn_relu
    y, h = function(
        layer.source,
        layer.initial(h0),
        layer.reordered([0]),
        b is not None,
        1,
        0.0,
        False,
        layer.directions == 2,
        False,
    )
    return layer.output(y), layer.state(h)
