"""What the rules ask about values: sizes, dtypes, uniform constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from graphopt._torch import statically_known_true
from graphopt.ir.schema import bound_arguments
from graphopt.rewriting.match import Emitter, Match, Value, unwrap
from graphopt.rewriting.matcher import FLOAT_STEPS

MAX_INDEX = 2**63 - 1
"""How torch writes "to the end" in a slice."""


def same_size(a: Any, b: Any) -> bool:
    """Whether two sizes are equal for every input that the program takes."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool(statically_known_true(a == b))


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal for every input that the program takes."""
    return len(a) == len(b) and all(map(same_size, a, b))


def is_tensor(value: Any) -> bool:
    """Whether a pattern variable met a tensor, and not a number, a list or a symbolic size."""
    return isinstance(value, Value) and isinstance(value.fake, torch.Tensor)


def is_floating(value: Any) -> bool:
    """Whether a pattern variable met a real floating-point tensor."""
    return is_tensor(value) and value.dtype.is_floating_point


def same_type(a: Any, b: Any) -> bool:
    """Whether two tensors have the same dtype and shape."""
    return is_tensor(a) and is_tensor(b) and a.dtype == b.dtype and same_shape(a.shape, b.shape)


def is_trainable(value: Any) -> bool:
    """Whether a constant is a parameter that training changes."""
    return isinstance(value, Value) and value.is_constant and value.tensor.requires_grad


def axis_of(axis: Any, rank: int) -> int | None:
    """An axis counted from the front, or None when it is not a plain number."""
    if not isinstance(axis, int):
        return None
    return axis + rank if axis < 0 else axis


def is_number(value: Any) -> bool:
    """Whether a pattern variable met a plain number (a bool is none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def about(number: float | int | None, wanted: float) -> bool:
    """Whether ``number`` is ``wanted`` up to its rounding to float32, as files store constants."""
    return number is not None and abs(number - wanted) <= FLOAT_STEPS * abs(wanted)


def size_of(value: Any) -> Any:
    """A size among a call's operands as a number or ``SymInt``: operands may be nodes."""
    if isinstance(value, Value):
        return value.fake
    if isinstance(value, fx.Node):
        return value.meta["val"]
    return value


def operand(match: Match, call: str, name: str) -> Any:
    """An operand of a named call of the pattern, by its schema name."""
    return operands(getattr(match, call).node)[name]


def operands(node: fx.Node) -> dict[str, Any]:
    """All operands of a call by schema name."""
    return bound_arguments(node)


def call_again(op: Emitter, node: fx.Node, **changes: Any) -> Value:
    """The call of ``node`` once more, with some operands exchanged.

    Args:
        op: builds the call.
        node: a call of an ``OpOverload``.
        changes: new operands by schema name.
    """
    overload = node.target
    assert isinstance(overload, torch._ops.OpOverload), overload
    values = {**bound_arguments(node), **unwrap(changes)}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    arguments = list(overload._schema.arguments)
    while (
        arguments
        and arguments[-1].has_default_value()
        and values[arguments[-1].name] == (arguments[-1].default_value)
    ):
        arguments.pop()
    for argument in arguments:
        if argument.kwarg_only:
            if not argument.has_default_value() or values[argument.name] != argument.default_value:
                named[argument.name] = values[argument.name]
        else:
            positional.append(values[argument.name])
    return op.overload(overload, *positional, **named)
