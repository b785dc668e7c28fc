"""Sequences and optionals whose length is known while importing: Python lists, and None.

No node of a program holds one: inserting or taking an element happens while importing.
"""

from __future__ import annotations

from typing import Any

import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.converters.shape import split_sizes
from graphopt.frontends.onnx.registry import HOST, VALUE, op
from graphopt.frontends.onnx.values import HostValue, Value


def _sequence(call: Call, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise call.error("needs a sequence" if value is not None else "needs a sequence, and has none")
    return value


def _position(call: Call, place: HostValue, length: int) -> int:
    """A position, counted from the end where it is negative; ``length`` itself is one past the last."""
    index = place.number()
    if not isinstance(index, int) or not -length <= index <= length:
        raise call.error(f"has the position {index} in a sequence of {length}")
    return index + length if index < 0 else index


@op("SequenceConstruct", since=11, default=VALUE)
def sequence_construct(call: Call, *elements: Value) -> list[Value]:
    return list(elements)


@op("SequenceEmpty", since=11, ignores=("dtype",))
def sequence_empty(call: Call) -> list[Value]:
    return []


@op("SequenceAt", since=11, default=VALUE, kinds={1: HOST})
def sequence_at(call: Call, sequence: Value, place: HostValue) -> Value:
    elements = _sequence(call, sequence)
    index = _position(call, place, len(elements))
    if index == len(elements):
        raise call.error(f"has the position {index} in a sequence of {len(elements)}")
    return elements[index]  # type: ignore[no-any-return]


@op("SequenceInsert", since=11, default=VALUE, kinds={2: HOST})
def sequence_insert(
    call: Call, sequence: Value, element: Value, place: HostValue | None = None
) -> list[Value]:
    elements = _sequence(call, sequence)
    index = len(elements) if place is None else _position(call, place, len(elements))
    return [*elements[:index], element, *elements[index:]]


@op("SequenceErase", since=11, default=VALUE, kinds={1: HOST})
def sequence_erase(call: Call, sequence: Value, place: HostValue | None = None) -> list[Value]:
    elements = _sequence(call, sequence)
    index = len(elements) - 1 if place is None else _position(call, place, len(elements))
    if not 0 <= index < len(elements):
        raise call.error(f"erases position {index} of a sequence of {len(elements)}")
    return [*elements[:index], *elements[index + 1 :]]


@op("SequenceLength", since=11, default=VALUE)
def sequence_length(call: Call, sequence: Value) -> HostValue:
    return HostValue.of(len(_sequence(call, sequence)), torch.int64)


@op("SplitToSequence", since=11, kinds={1: HOST}, ignores=("keepdims",))
def split_to_sequence(call: Call, x: torch.Tensor, split: HostValue | None = None) -> list[Any]:
    """Parts of sizes ``split``, or all of one size with a smaller last one, or of size 1."""
    axis = call.int("axis", 0)
    if split is not None and split.ndim == 1:
        return list(split_sizes(call, x, split.numbers(), axis))
    total, part = x.shape[axis], 1 if split is None else split.number()
    if not isinstance(total, int) or not isinstance(part, int):
        raise call.error(f"cuts {total} elements of a dynamic axis to a sequence", hint="fix the dimension")
    parts = torch.split(x, part, dim=axis)
    if split is None and not call.flag("keepdims", True):
        return [p.squeeze(axis) for p in parts]
    return list(parts)


@op("ConcatFromSequence", since=11, default=VALUE)
def concat_from_sequence(call: Call, sequence: Value) -> torch.Tensor:
    parts = [call.as_tensor(v, "element") for v in _sequence(call, sequence)]
    if not parts:
        raise call.error("concatenates an empty sequence")
    axis = call.int("axis")
    return torch.stack(parts, dim=axis) if call.flag("new_axis") else torch.cat(parts, dim=axis)


@op("SequenceMap", since=17, default=VALUE)
def sequence_map(call: Call, sequence: Value, *others: Value) -> tuple[list[Value], ...]:
    """The body's results for each element; other sequences go along, other tensors stay."""
    elements, body = _sequence(call, sequence), call.graph("body")
    columns: list[list[Value]] = [[] for _ in body.outputs]
    for i, element in enumerate(elements):
        beside = [o[i] if isinstance(o, list) else o for o in others]
        for column, result in zip(columns, call.run(body, [element, *beside]), strict=True):
            column.append(result)
    return tuple(columns)


@op("Optional", since=15, default=VALUE, ignores=("type",))
def optional(call: Call, element: Value = None) -> Value:
    return element


@op("OptionalHasElement", since=15, default=VALUE)
def optional_has_element(call: Call, element: Value = None) -> HostValue:
    return HostValue.of(element is not None, torch.bool)


@op("OptionalGetElement", since=15, default=VALUE)
def optional_get_element(call: Call, element: Value = None) -> Value:
    if element is None:
        raise call.error("takes the element of an optional that has none")
    return element
