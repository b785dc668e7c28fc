"""A recorded call of an ATen operator: the overload, all arguments of its schema, and what came out.

Tensors are recorded as dtype and shape; their values are not kept.  Two calls that differ only in
values are one record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload


@dataclass(frozen=True)
class TensorSpec:
    """Dtype and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


Value = Any
"""A :class:`TensorSpec`, number, string, dtype, memory format, None, or a tuple of these."""


class NotRecorded(Exception):
    """A call that no record can hold; the message says why."""


@dataclass(frozen=True)
class Record:
    """One call.

    Attributes:
        overload: such as ``aten.conv2d.default``.
        arguments: one a schema argument, in the schema's order; defaults are filled in.
        outputs: one a result tensor; None in the place of a result that is no tensor.
        source: where it was seen: ``op_db:nn.functional.conv2d``, ``zoo:minilm``, ``template:fold-bn``.
        valid: whether the call succeeded.
    """

    overload: str
    arguments: tuple[Value, ...]
    outputs: tuple[TensorSpec | None, ...]
    source: str
    valid: bool = True


def overload_of(name: str) -> OpOverload:
    """The overload called ``aten.NAME.OVERLOAD``.

    Raises:
        LookupError: torch has none of that name.
    """
    parts = name.split(".")
    if len(parts) != 3 or not all(part.isidentifier() for part in parts) or parts[0] != "aten":
        raise LookupError(f"{name!r} is not the name of an ATen overload")
    packet = getattr(torch.ops.aten, parts[1], None)
    found = getattr(packet, parts[2], None)
    if not isinstance(found, OpOverload):
        raise LookupError(f"torch has no overload {name!r}")
    return found


def specify(value: Any) -> Value:
    """An argument as records hold it.

    Raises:
        NotRecorded: it holds symbolic sizes, or a tensor that is not dense and strided.
    """
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_quantized or type(value).__name__ == "NestedTensor":
            raise NotRecorded("a tensor that is not strided")
        shape = tuple(value.shape)
        if not all(isinstance(size, int) for size in shape):
            raise NotRecorded("symbolic sizes")
        return TensorSpec(value.dtype, shape)
    if isinstance(value, list | tuple):
        return tuple(specify(v) for v in value)
    plain = (
        bool | int | float | complex | str | torch.dtype | torch.layout | torch.device | torch.memory_format
    )
    if value is None or isinstance(value, plain):
        return value
    raise NotRecorded(f"an argument of type {type(value).__name__}")


def normalised(overload: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Value, ...]:
    """Arguments in the schema's order, defaults filled in; devices and layouts as None.

    Raises:
        NotRecorded: as for :func:`specify`.
    """
    values = []
    for position, argument in enumerate(overload._schema.arguments):
        if position < len(args) and not argument.kwarg_only:
            value = args[position]
        elif argument.name in kwargs:
            value = kwargs[argument.name]
        else:
            value = argument.default_value
        if isinstance(value, torch.device | torch.layout) or argument.name == "pin_memory":
            value = None  # a tensor's place in memory is not what rules are about
        values.append(specify(value))
    return tuple(values)


def outputs_of(result: Any) -> tuple[TensorSpec | None, ...]:
    """The tensors among an operator's results, flat.

    Raises:
        NotRecorded: as for :func:`specify`.
    """
    flat = result if isinstance(result, list | tuple) else (result,)
    return tuple(specify(r) if isinstance(r, torch.Tensor) else None for r in flat)


def tensors(value: Value) -> Iterator[TensorSpec]:
    """The tensors in an argument or a tuple of arguments, in order."""
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors(item)
