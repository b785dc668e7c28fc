"""The arguments of an operator with some numbers left open, and their form in JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.errors import InputError


@dataclass(frozen=True, slots=True)
class TensorSlot:
    """The place of an input tensor, by its index among the inputs of the rule."""

    index: int


@dataclass(frozen=True, slots=True)
class SymbolSlot:
    """The place of an integer that a symbol stands for."""

    name: str


@dataclass(frozen=True, slots=True)
class TorchConstant:
    """A dtype or memory format, by its name in torch."""

    name: str


Template = Any
"""A slot, :class:`TorchConstant`, number, string, None, or a tuple of these."""


def filled(
    template: Template, values: Mapping[str, int], tensors: Sequence[Any] | Callable[[int], Any]
) -> Any:
    """A template as torch takes it: symbols replaced by numbers, slots by tensors, tuples as lists."""
    match template:
        case TensorSlot(index):
            return tensors(index) if callable(tensors) else tensors[index]
        case SymbolSlot(name):
            return values[name]
        case TorchConstant(name):
            import torch

            return getattr(torch, name)
        case tuple():
            return [filled(item, values, tensors) for item in template]
    return template


def slots(template: Template) -> Iterator[TensorSlot | SymbolSlot]:
    """The slots in a template, in order."""
    if isinstance(template, TensorSlot | SymbolSlot):
        yield template
    elif isinstance(template, tuple):
        for item in template:
            yield from slots(item)


def to_json(template: Template) -> Any:
    """A template as JSON holds it: what JSON lacks is an object with one key."""
    match template:
        case TensorSlot(index):
            return {"tensor": index}
        case SymbolSlot(name):
            return {"symbol": name}
        case TorchConstant(name):
            return {"torch": name}
        case tuple():
            return [to_json(item) for item in template]
        case complex():
            return {"complex": [template.real, template.imag]}
        case float() if template != template or template in (float("inf"), float("-inf")):
            return {"float": repr(template)}
    return template


def from_json(value: Any) -> Template:
    """The template that :func:`to_json` wrote.

    Raises:
        InputError: GO-3012, it wrote no such thing.
    """
    match value:
        case {"tensor": int(index)} if len(value) == 1 and index >= 0:
            return TensorSlot(index)
        case {"symbol": str(name)} if len(value) == 1 and name.isidentifier():
            return SymbolSlot(name)
        case {"torch": str(name)} if len(value) == 1 and name.isidentifier():
            return TorchConstant(name)
        case {"complex": [int() | float() as real, int() | float() as imaginary]} if len(value) == 1:
            return complex(real, imaginary)
        case {"float": "inf" | "-inf" | "nan" as text} if len(value) == 1:
            return float(text)
        case list():
            return tuple(from_json(item) for item in value)
        case None | bool() | int() | float() | str():
            return value
    raise InputError(f"not an argument of rules: {str(value)[:80]!r}", code="GO-3012")
