"""Checks concrete inputs against a signature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from graphopt.errors import InputError
from graphopt.ir.signature import Signature, TensorSpec, dtype_name


def check_inputs(signature: Signature, inputs: Sequence[Any]) -> dict[str, int]:
    """The size of each symbolic dimension, as the inputs have it.

    Args:
        signature: what the program expects.
        inputs: tensors (anything with ``shape`` and ``dtype``), in order.

    Raises:
        InputError: GO-3010, naming the input, what it must be and what it is.
    """
    specs = signature.inputs
    if len(inputs) != len(specs):
        names = ", ".join(s.name for s in specs)
        raise InputError(
            f"the program takes {len(specs)} inputs ({names}), {len(inputs)} were given", code="GO-3010"
        )
    sizes: dict[str, int] = {}
    expressions: list[tuple[TensorSpec, int, str, int]] = []
    for spec, value in zip(specs, inputs, strict=True):
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"input {spec.name!r} must be a tensor, not {type(value).__name__}", code="GO-3010"
            )
        if value.dtype != spec.dtype:
            raise InputError(
                f"input {spec.name!r} must be {dtype_name(spec.dtype)}, not {dtype_name(value.dtype)}",
                code="GO-3010",
            )
        if value.shape == spec.shape:
            continue  # every axis is a number
        if value.dim() != len(spec.shape):
            raise _shape_error(spec, value, f"{len(spec.shape)} dimensions, not {value.dim()}")
        for axis, (want, have) in enumerate(zip(spec.shape, value.shape, strict=True)):
            if isinstance(want, int):
                if want != have:
                    raise _shape_error(spec, value, f"axis {axis} must be {want}, not {have}")
            elif want in signature.dims:
                if sizes.setdefault(want, have) != have:
                    raise _shape_error(
                        spec, value, f"axis {axis} is {want} = {have}, elsewhere {want} = {sizes[want]}"
                    )
                if have not in signature.dims[want]:
                    raise _shape_error(
                        spec, value, f"axis {axis}: {want} = {have} is outside {signature.dims[want]}"
                    )
            else:
                expressions.append((spec, axis, want, have))
    for spec, axis, want, have in expressions:
        (value,) = signature.resolve((want,), sizes)
        if value != have:
            raise InputError(
                f"input {spec.name!r}: axis {axis} must be {want} = {value}, not {have}", code="GO-3010"
            )
    return sizes


def _shape_error(spec: TensorSpec, value: torch.Tensor, reason: str) -> InputError:
    return InputError(
        f"input {spec.name!r} has shape {list(value.shape)}: {reason}",
        code="GO-3010",
        hint=f"the signature says {spec}",
    )
