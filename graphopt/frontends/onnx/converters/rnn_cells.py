"""Recurrent cells in their general form, run step by step.

Equations and names of gates are those of https://onnx.ai/onnx/operators/onnx__LSTM.html, GRU and RNN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F

from graphopt._torch import scan_op
from graphopt.frontends.onnx.call import Call

Activation = Callable[[torch.Tensor], torch.Tensor]
State = tuple[torch.Tensor, ...]

_PLAIN: dict[str, Activation] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}
_PARAMETRISED: dict[str, tuple[tuple[float, ...], Callable[..., torch.Tensor]]] = {
    "affine": ((1.0, 0.0), lambda x, alpha, beta: alpha * x + beta),
    "elu": ((1.0,), lambda x, alpha: F.elu(x, alpha)),
    "hardsigmoid": ((0.2, 0.5), lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0.0, 1.0)),
    "leakyrelu": ((0.01,), lambda x, alpha: F.leaky_relu(x, alpha)),
    "scaledtanh": ((1.0, 1.0), lambda x, alpha, beta: alpha * torch.tanh(beta * x)),
    "thresholdedrelu": ((1.0,), lambda x, alpha: F.threshold(x, alpha, 0.0)),
}
"""Default parameters, which say how many there are, and the function."""


def activations(call: Call, names: list[str]) -> list[Activation]:
    """The functions that ``names`` stand for.

    ``activation_alpha`` and ``activation_beta`` hold a number for each function that takes one, in order.

    Raises:
        InputError: GO-3006, no such function is defined.
    """
    alphas, betas = (list(call.floats(f"activation_{p}", [])) for p in ("alpha", "beta"))
    functions: list[Activation] = []
    for name in names:
        key = name.lower()
        if key in _PLAIN:
            functions.append(_PLAIN[key])
            continue
        if key not in _PARAMETRISED:
            raise call.error(f"has the unknown activation {name!r}")
        defaults, function = _PARAMETRISED[key]
        given = [values.pop(0) if values else d for values, d in zip((alphas, betas), defaults, strict=False)]
        functions.append(functools.partial(_apply, function, given))
    return functions


def _apply(function: Callable[..., torch.Tensor], parameters: list[float], x: torch.Tensor) -> torch.Tensor:
    return function(x, *parameters)


_LONGEST_UNROLLED = 8
"""More steps than this are a loop, which compiles in the time of one step."""


@dataclass(frozen=True)
class Weights:
    """One direction: W [gates*H, I], R [gates*H, H], input and recurrent biases [gates*H], P [3*H]."""

    w: torch.Tensor
    r: torch.Tensor
    w_bias: torch.Tensor
    r_bias: torch.Tensor
    peepholes: torch.Tensor | None = None


Step = Callable[[Weights, torch.Tensor, State], State]
"""From what X contributes to the gates, X Wᵀ + bias [B, gates*H], and the state to the next state."""


def lstm_step(functions: list[Activation], clip: Activation, coupled: bool) -> Step:
    """Gates input, output, forget, cell; state (h, c).  ``coupled``: what is not kept is replaced."""
    f, g, h = functions

    def peep(gate: torch.Tensor, peephole: torch.Tensor | None, cell: torch.Tensor) -> torch.Tensor:
        return clip(gate if peephole is None else gate + peephole * cell)

    def step(weights: Weights, x: torch.Tensor, state: State) -> State:
        hidden, cell = state
        p_i, p_o, p_f = (None,) * 3 if weights.peepholes is None else weights.peepholes.chunk(3)
        gates = x + hidden @ weights.r.t() + weights.r_bias
        i, o, forget, candidate = gates.chunk(4, dim=-1)
        i = f(peep(i, p_i, cell))
        forget = 1 - i if coupled else f(peep(forget, p_f, cell))
        cell = forget * cell + i * g(clip(candidate))
        return f(peep(o, p_o, cell)) * h(cell), cell

    return step


def gru_step(functions: list[Activation], clip: Activation, reset_last: bool) -> Step:
    """Gates update, reset, hidden; ``reset_last`` resets what the recurrent product gives."""
    f, g = functions

    def step(weights: Weights, x: torch.Tensor, state: State) -> State:
        (hidden,) = state
        size = weights.r.shape[1]
        r_gates, r_hidden = weights.r.split([2 * size, size])
        b_gates, b_hidden = weights.r_bias.split([2 * size, size])
        z, reset, candidate = x.chunk(3, dim=-1)
        z_more, reset_more = (hidden @ r_gates.t() + b_gates).chunk(2, dim=-1)
        z, reset = f(clip(z + z_more)), f(clip(reset + reset_more))
        if reset_last:
            more = reset * (hidden @ r_hidden.t() + b_hidden)
        else:
            more = (reset * hidden) @ r_hidden.t() + b_hidden
        candidate = g(clip(candidate + more))
        return ((1 - z) * candidate + z * hidden,)

    return step


def rnn_step(functions: list[Activation], clip: Activation) -> Step:
    (f,) = functions

    def step(weights: Weights, x: torch.Tensor, state: State) -> State:
        return (f(clip(x + state[0] @ weights.r.t() + weights.r_bias)),)

    return step


def run_cell(
    step: Step, weights: Weights, x: torch.Tensor, state: State, lengths: torch.Tensor | None
) -> tuple[torch.Tensor, State]:
    """Runs a cell over X [S, B, I]: outputs [S, B, H] and the state after each sequence.

    What the input contributes is one product for all steps.  A small known number of steps is unrolled;
    others are a ``scan``.  Outputs beyond the length of a sequence [B] are zero; its state stays what it was.
    """
    steps = x.shape[0]
    gates = x @ weights.w.t() + weights.w_bias
    if not isinstance(steps, int) or steps > _LONGEST_UNROLLED:
        return _scan_cell(step, weights, gates, state, lengths)
    outputs = []
    for t in range(steps):
        alive = None if lengths is None else t < lengths
        output, state = _masked(step(weights, gates[t], state), state, alive)
        outputs.append(output)
    return torch.stack(outputs), state


def _masked(new: State, old: State, alive: torch.Tensor | None) -> tuple[torch.Tensor, State]:
    """What a step gives, and the next state; ``alive`` [B] says which sequences have not ended."""
    if alive is None:
        return new[0], new
    alive = alive.unsqueeze(1)
    output = torch.where(alive, new[0], torch.zeros_like(new[0]))
    return output, tuple(torch.where(alive, n, o) for n, o in zip(new, old, strict=True))


def _scan_cell(
    step: Step, weights: Weights, gates: torch.Tensor, state: State, lengths: torch.Tensor | None
) -> tuple[torch.Tensor, State]:
    given = {f.name: getattr(weights, f.name) for f in fields(weights) if not f.name.startswith("w")}
    names = [name for name, tensor in given.items() if tensor is not None]
    operands = [given[name] for name in names] + ([] if lengths is None else [lengths])
    count = len(state)

    def body(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        before, (row, t, *rest) = arguments[:count], arguments[count:]
        own = replace(weights, **dict(zip(names, rest, strict=False)))
        output, after = _masked(step(own, row, before), before, None if lengths is None else t < rest[-1])
        return (*(s.clone() for s in after), output.clone())

    places = torch.arange(gates.shape[0], dtype=torch.int64)
    *after, outputs = scan_op(body, list(state), [gates, places], tuple(operands))
    return outputs, tuple(after)


def clipping(limit: Any) -> Activation:
    """Bounds what goes into a gate's activation; None bounds nothing."""
    return (lambda x: x) if limit is None else (lambda x: torch.clamp(x, -limit, limit))
