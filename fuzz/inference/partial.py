"""Partial operators: an overload with everything fixed but sizes and integer attributes.

What changes the structure of a call (ranks, classes of dtypes, axes, flags, modes, the number of
results) is fixed and makes the key; the rest is symbols.  One overload has as many partial operators
as it was seen with different structures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from graphopt.fuzz.rules.arguments import SymbolSlot, Template, TensorSlot, TorchConstant
from graphopt.fuzz.rules.rule import TensorInput
from graphopt.fuzz.traces.record import NotRecorded, Record, TensorSpec, Value, overload_of

_STRUCTURAL = re.compile(r"(^|_)(dims?|dim\d|dimension|axis|axes|axis\d|source|destination)(_|$)")
_ENUMERATIONS = {"reduction", "mode", "interpolation_mode", "padding_mode", "ord", "which"}
_STRUCTURAL_OF = {
    "aten.rot90.default": {"k"},
    "aten.one_hot.default": {"num_classes"},
    "aten.chunk.default": {"chunks"},
    "aten.unsafe_chunk.default": {"chunks"},
    "aten.tensor_split.sections": {"sections"},
}
_COUNTING = ("aten.arange.", "aten.linspace.")
"""Operators whose scalars decide a size."""
_SIZES = {"size", "shape", "sizes"}
MAX_RANK = 5
LARGEST = 1 << 24
"""Integers above stand for "to the end" and are fixed."""

CLASSES = {
    "float": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
    "int": (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    "bool": (torch.bool,),
}
"""Classes of dtypes; the first of each stands for it while rules are inferred."""


def is_size(name: str) -> bool:
    """Whether an attribute is a number of a list of sizes, in which -1 means "the rest" and is structure."""
    return name.rsplit("_", 1)[0] in _SIZES


@dataclass(frozen=True)
class PartialOperator:
    """What one inference is about.

    Attributes:
        overload: such as ``aten.conv2d.default``.
        template: the arguments in the schema's order.
        inputs: tensors, in order of appearance.
        attributes: names of the symbols that are integer arguments.
        output_ranks: one an output; None: no tensor.
        sources: where its records were seen.
        records: values of :attr:`symbols`, valid ones.
        invalid: values of :attr:`symbols` that were seen to fail.
    """

    overload: str
    template: tuple[Template, ...]
    inputs: tuple[TensorInput, ...]
    attributes: tuple[str, ...]
    output_ranks: tuple[int | None, ...]
    sources: tuple[str, ...]
    records: tuple[tuple[int, ...], ...]
    invalid: tuple[tuple[int, ...], ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Sizes of the inputs in order, then attributes."""
        return tuple(s for tensor in self.inputs for s in tensor.sizes) + self.attributes

    @property
    def key(self) -> str:
        """Readable, and unique among partial operators."""
        tensors = ", ".join(f"{t.kind}{len(t.sizes)}" for t in self.inputs)
        return f"{self.overload}({tensors}){_constants(self)} -> {list(self.output_ranks)}"


def _constants(partial: PartialOperator) -> str:
    schema = overload_of(partial.overload)._schema.arguments
    shown = []
    for argument, value in zip(schema, partial.template, strict=True):
        if not isinstance(value, TensorSlot) and not _same(value, argument.default_value):
            shown.append(f"{argument.name}={_text(value)}")
    return f"[{', '.join(shown)}]"


def _same(value: Template, default: Any) -> bool:
    """Equal, and of one type: 1, 1.0 and True are three things to an operator."""
    if isinstance(value, tuple) and isinstance(default, list | tuple):
        return len(value) == len(default) and all(map(_same, value, default))
    return type(value) is type(default) and value == default


def _text(value: Template) -> str:
    match value:
        case TensorSlot(index):
            return f"t{index}"
        case SymbolSlot():
            return "_"
        case TorchConstant(name):
            return name
        case tuple():
            return "[" + ",".join(map(_text, value)) + "]"
        case bool() | str() | None:
            return repr(value)
    return repr(value)


class _Symboliser:
    """Turns the arguments of one record into a template and values."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.inputs: list[TensorInput] = []
        self.attributes: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.key: list[Any] = []

    def template(self) -> tuple[Template, ...]:
        schema = overload_of(self.record.overload)._schema.arguments
        found = []
        for argument, value in zip(schema, self.record.arguments, strict=True):
            counts = self.record.overload.startswith(_COUNTING)
            scalar = not counts and any(kind in str(argument.type) for kind in ("number", "Scalar", "float"))
            fixed = (
                scalar or self._structural(argument.name) or str(argument.type) in ("bool", "Optional[bool]")
            )
            found.append(self._value(argument.name, value, fixed))
        return tuple(found)

    def _structural(self, name: str) -> bool:
        named = _STRUCTURAL_OF.get(self.record.overload, set())
        return bool(_STRUCTURAL.search(name)) or name in _ENUMERATIONS or name in named

    def _value(self, name: str, value: Value, fixed: bool) -> Template:
        match value:
            case TensorSpec(dtype, shape):
                return self._tensor(name, dtype, shape)
            case tuple():
                self.key.append(("list", len(value)))
                return tuple(self._value(f"{name}_{i}", v, fixed) for i, v in enumerate(value))
            case torch.dtype() | torch.memory_format():
                self.key.append(str(value))
                return TorchConstant(str(value).removeprefix("torch."))
            case bool() | str() | None:
                self.key.append(value)
                return value
            case float() | complex():
                self.key.append(type(value).__name__)
                return value
            case int():
                of_sizes = is_size(name) and value < 0
                if fixed or of_sizes or abs(value) >= LARGEST:
                    # Numbers that scalars are compared or combined with do not change the structure.
                    self.key.append(
                        value if self._structural(name) or of_sizes or abs(value) >= LARGEST else "int"
                    )
                    return value
                self.key.append("symbol")
                symbol = f"{name}_" if name in ("from", "is", "in") else name
                self.attributes[symbol] = value
                return SymbolSlot(symbol)
        raise NotRecorded(f"an argument of type {type(value).__name__}")

    def _tensor(self, name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> TensorSlot:
        kind = next((k for k, dtypes in CLASSES.items() if dtype in dtypes), None)
        if kind is None:
            raise NotRecorded(f"dtype {dtype}")
        if len(shape) > MAX_RANK or 0 in shape:
            raise NotRecorded("rank or empty tensor")
        sizes = tuple(f"{name}_{axis}" for axis in range(len(shape)))
        self.sizes.update(zip(sizes, shape, strict=True))
        self.inputs.append(TensorInput(name, kind, sizes))
        self.key.append((kind, len(shape)))
        return TensorSlot(len(self.inputs) - 1)


def partial_operators(records: Iterable[Record]) -> list[PartialOperator]:
    """The records by partial operator, those with most records first; what rules cannot cover is left out.

    An invalid record counts where its structure is that of a valid one.
    """
    groups: dict[Any, list[tuple[_Symboliser, tuple[Template, ...], Record]]] = {}
    failed: dict[Any, list[tuple[int, ...]]] = {}
    for record in records:
        symboliser = _Symboliser(record)
        try:
            template = symboliser.template()
        except NotRecorded:
            continue
        if set(symboliser.attributes) & set(symboliser.sizes):
            continue
        structure = (record.overload, *symboliser.key)
        values = (*symboliser.sizes.values(), *symboliser.attributes.values())
        if not record.valid:
            failed.setdefault(structure, []).append(values)
            continue
        shapes = [output.shape for output in record.outputs if output is not None]
        if not shapes or any(0 in shape for shape in shapes):
            continue
        ranks = tuple(None if o is None else len(o.shape) for o in record.outputs)
        groups.setdefault((structure, ranks), []).append((symboliser, template, record))
    found = []
    for (structure, ranks), members in groups.items():
        first, template, _ = members[0]
        found.append(
            PartialOperator(
                overload=structure[0],
                template=template,
                inputs=tuple(first.inputs),
                attributes=tuple(first.attributes),
                output_ranks=ranks,
                sources=tuple(dict.fromkeys(record.source for _, _, record in members)),
                records=tuple(
                    dict.fromkeys((*s.sizes.values(), *s.attributes.values()) for s, _, _ in members)
                ),
                invalid=tuple(dict.fromkeys(failed.get(structure, ()))),
            )
        )
    return sorted(found, key=lambda partial: (-len(partial.records), partial.key))
