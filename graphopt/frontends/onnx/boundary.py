"""Inputs and outputs of a graph that are not plain tensors.

A program takes and returns tensors.  So the elements of a sequence are inputs (outputs) of their own,
``name.0``, ``name.1``, …; an optional is what it may hold, and is always given; a 4-bit type is carried
by a wider one (``packed_types``).  Notes of the program say where that happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from graphopt.errors import InputError, UsageError
from graphopt.frontends.onnx.dtypes import torch_dtype
from graphopt.frontends.onnx.packed_types import PACKED
from graphopt.frontends.onnx.values import Value


@dataclass(frozen=True)
class BoundaryInput:
    """One input of the graph.

    Attributes:
        value: as the graph has it.
        tensors: the program's inputs that make it up.
        sequence: they are the elements of a sequence, not the value itself.
    """

    value: ir.Value
    tensors: tuple[ir.Value, ...]
    sequence: bool

    def bind(self, tensors: Sequence[Any]) -> Value:
        return list(tensors) if self.sequence else tensors[0]


def boundary_input(value: ir.Value, shapes: Mapping[str, Any]) -> BoundaryInput:
    """The tensors of an input.

    Args:
        shapes: for a sequence, a list with the shape of each element, under its name.

    Raises:
        InputError: GO-3006, the length of a sequence is not given, or its elements are not tensors.
        UsageError: the shapes of a sequence are not a list of shapes.
    """
    kind = value.type
    if isinstance(kind, ir.OptionalType):
        kind = kind.elem_type
    if isinstance(kind, ir.TensorType):
        if kind is value.type:
            return BoundaryInput(value, (value,), sequence=False)
        return BoundaryInput(
            value, (ir.Value(name=value.name, shape=value.shape, type=kind),), sequence=False
        )
    if not isinstance(kind, ir.SequenceType) or not isinstance(kind.elem_type, ir.TensorType):
        raise InputError(f"input {value.name!r} is {_described(value)}, not a tensor", code="GO-3006")
    given = shapes.get(str(value.name))
    if given is None:
        raise InputError(
            f"input {value.name!r} is a sequence, whose length has to be known",
            code="GO-3006",
            hint=f"give the shape of each element: shapes={{{value.name!r}: [[2, 3], [4, 3]]}}",
        )
    if not all(isinstance(shape, Sequence) and not isinstance(shape, str) for shape in given):
        raise UsageError(f"input {value.name!r} is a sequence: its shapes are a list of shapes, not {given}")
    elements = (
        ir.Value(name=f"{value.name}.{i}", shape=ir.Shape(shape), type=kind.elem_type)
        for i, shape in enumerate(given)
    )
    return BoundaryInput(value, tuple(elements), sequence=True)


def _described(value: ir.Value) -> str:
    return "of unknown type" if value.type is None else str(value.type)


def boundary_output(value: ir.Value, result: Value) -> dict[str, Value]:
    """The tensors of an output by name.

    Raises:
        InputError: GO-3006, an optional without an element, an empty sequence, or one of sequences.
    """
    if result is None:
        raise InputError(f"output {value.name!r} is an optional without an element", code="GO-3006")
    if not isinstance(result, list):
        return {str(value.name): result}
    if not result or any(isinstance(r, list) or r is None for r in result):
        what = "an empty sequence" if not result else "a sequence of sequences or optionals"
        raise InputError(f"output {value.name!r} is {what}, which no tensors stand for", code="GO-3006")
    return {f"{value.name}.{i}": element for i, element in enumerate(result)}


def carried_note(kind: str, name: str, element_type: ir.DataType) -> str:
    """What a user should know of a tensor whose element type torch lacks."""
    packed = PACKED[element_type]
    dtype = str(torch_dtype(element_type, name)).removeprefix("torch.")
    return f"{kind} {name!r} has the type {element_type.name}: it is {dtype}, {packed.low} to {packed.high}"


def input_notes(inputs: Sequence[BoundaryInput]) -> list[str]:
    """Notes on the inputs that are not as the file has them."""
    notes: list[str] = []
    for item in inputs:
        name = str(item.value.name)
        if isinstance(item.value.type, ir.OptionalType):
            notes.append(f"input {name!r} is optional in the file; the program always takes it")
        if item.sequence:
            parts = ", ".join(repr(t.name) for t in item.tensors)
            notes.append(f"input {name!r} is a sequence; its elements are {parts}")
        for tensor in item.tensors:
            if isinstance(tensor.type, ir.TensorType) and tensor.type.dtype in PACKED:
                notes.append(carried_note("input", str(tensor.name), tensor.type.dtype))
    return notes
