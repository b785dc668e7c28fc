"""The dynamic axes of an ONNX file: which there are, how they are called, what the user says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from graphopt.errors import InputError, UsageError, did_you_mean
from graphopt.ir.signature import DimRange

DimSpec = int | tuple[int, int | None] | DimRange
"""What a user may say of a dimension: a fixed size, (min, max), or a range with a multiple."""

_ANONYMOUS = {"", "?", "-1", "*", "None", "none", "unk", "unknown", "dynamic", "?x?"}


@dataclass(frozen=True)
class Axis:
    """One axis of one input."""

    input: int
    axis: int


@dataclass
class Dimension:
    """A size that varies between runs.

    Attributes:
        name: as the program's signature shows it.
        axes: the axes that have this size.
        range: the sizes allowed.
        user_range: the user gave the range, so the importer must not narrow it silently.
    """

    name: str
    axes: list[Axis] = field(default_factory=list)
    range: DimRange = field(default_factory=lambda: DimRange(1, None))
    user_range: bool = False


@dataclass
class InputShape:
    """Name, element type and axes of one graph input; an axis is a size or a dimension's name."""

    name: str
    shape: list[int | str]


def read_dimensions(
    inputs: Sequence[ir.Value], shapes: Mapping[str, Sequence[int | str | None]] | None = None
) -> tuple[list[InputShape], dict[str, Dimension]]:
    """The shapes of the graph's inputs and their dynamic dimensions.

    Axes with one ``dim_param`` are one dimension if that is a real name.  ``?``, ``-1``, a missing
    size and the like are not: PP-OCRv4 writes ``?`` for height and width alike.  A name that is an
    identifier is kept; others are made from the first input and axis that have it: ``x_0``.

    Args:
        inputs: the graph's inputs.
        shapes: shapes for inputs that the file gives none for.

    Raises:
        InputError: an input's rank is unknown.
    """
    dimensions: dict[str, Dimension] = {}
    by_param: dict[str, str] = {}
    result: list[InputShape] = []
    identifiers = {p for v in inputs for p in _params(v) if p.isidentifier()}
    for index, value in enumerate(inputs):
        given = (shapes or {}).get(str(value.name))
        axes: Sequence[int | str | None]
        if given is not None:
            axes = list(given)
        elif value.shape is None:
            raise InputError(
                f"input {value.name!r} has no shape in the file",
                code="GO-3003",
                hint=f"give its shape: shapes={{{value.name!r}: ('batch', 3, 'height', 'width')}}",
            )
        else:
            axes = [d if isinstance(d, int) else d.value for d in value.shape]
        shape: list[int | str] = []
        for axis, size in enumerate(axes):
            if isinstance(size, int) and size >= 0:
                shape.append(size)
                continue
            param = size if isinstance(size, str) and size.strip() not in _ANONYMOUS else None
            if param is not None and param in by_param:
                name = by_param[param]
            else:
                readable = param is not None and param.isidentifier()
                name = (
                    str(param) if readable else _made_up(str(value.name), axis, identifiers | {*dimensions})
                )
                if param is not None:
                    by_param[param] = name
            dimensions.setdefault(name, Dimension(name)).axes.append(Axis(index, axis))
            shape.append(name)
        result.append(InputShape(str(value.name), shape))
    return result, dimensions


def apply_user_dims(
    shapes: list[InputShape], dimensions: dict[str, Dimension], given: Mapping[str, DimSpec]
) -> None:
    """Binds or restricts dimensions as the user says; changes its first two arguments.

    Raises:
        UsageError: there is no such dimension, or the specification is malformed.
    """
    for name, spec in given.items():
        if name not in dimensions:
            known = ", ".join(dimensions) or "none"
            hint = did_you_mean(name, dimensions) or f"dimensions: {known}"
            raise UsageError(f"the model has no dynamic dimension {name!r}", hint=hint)
        if isinstance(spec, bool) or (isinstance(spec, int) and spec < 0):
            raise UsageError(f"{spec!r} is not a size for dimension {name!r}")
        if isinstance(spec, int):
            make_static(shapes, dimensions, name, spec)
            continue
        bounds = spec if isinstance(spec, DimRange) else DimRange(*spec)
        if bounds.max is not None and bounds.max < bounds.min:
            raise UsageError(f"dimension {name!r}: {bounds} is empty")
        if bounds.max == bounds.min:
            make_static(shapes, dimensions, name, bounds.min)
        else:
            dimensions[name] = replace(dimensions[name], range=bounds, user_range=True)


def make_static(shapes: list[InputShape], dimensions: dict[str, Dimension], name: str, size: int) -> None:
    """Gives a dimension one size; changes its arguments."""
    for axis in dimensions.pop(name).axes:
        shapes[axis.input].shape[axis.axis] = size


def _params(value: ir.Value) -> list[str]:
    dims = value.shape.dims if value.shape is not None else ()
    return [d.value for d in dims if not isinstance(d, int) and d.value is not None]


def _made_up(input_name: str, axis: int, taken: set[str]) -> str:
    stem = re.sub(r"\W", "_", input_name)
    stem = stem if stem.isidentifier() else f"_{stem}"
    name, count = f"{stem}_{axis}", 1
    while name in taken:
        count += 1
        name = f"{stem}_{axis}_{count}"
    return name
