"""Capture of ``nn.Module`` objects through ``torch.export``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from graphopt.errors import InputError
from graphopt.ir.program import Program
from graphopt.ir.signature import DimRange

DynamicShapes = Mapping[str, Any] | Sequence[Any] | None


def capture_torch(
    module: torch.nn.Module | ExportedProgram,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: DynamicShapes = None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Program:
    """The program of a module.

    Args:
        module: in eval mode.  An ``ExportedProgram`` is taken as it is.
        args: example arguments; tensors, or nested containers of tensors.
        kwargs: example keyword arguments.
        dynamic_shapes: as ``torch.export.export`` takes it, one entry an argument.  An axis may
            also be given a plain name, ``{0: "batch", 1: "sequence"}``: the axes of one name are
            the same dimension.
        input_names: default: the names of the arguments.
        output_names: default: the keys of a returned dict, else ``output`` or ``output_0`` ….

    Returns:
        a program whose inputs are the tensors among the arguments, flat and in order.

    Raises:
        InputError: GO-3007, when the module is in training mode or torch.export cannot capture it.
    """
    if isinstance(module, ExportedProgram):
        return Program.from_exported(
            module, input_names=input_names, output_names=output_names or _output_names(module)
        )
    if module.training:
        raise InputError(
            f"{type(module).__name__} is in training mode", code="GO-3007", hint="call module.eval() first"
        )
    args, kwargs = tuple(args), dict(kwargs or {})
    spec = _DimSpec(dynamic_shapes)
    try:
        exported = torch.export.export(
            module, args, kwargs, dynamic_shapes=spec.for_torch, strict=False
        )
    except Exception as error:
        raise InputError(
            f"torch.export cannot capture {type(module).__name__}: {_first_lines(error)}",
            code="GO-3007",
            layer=_user_line(error),
        ) from error
    dim_names = spec.names(args, kwargs)
    program = Program.from_exported(
        exported,
        input_names=input_names,
        output_names=output_names or _output_names(exported),
        dim_names=dim_names,
        dim_ranges=spec.ranges,
    )
    _note_fixed_axes(program, dim_names)
    return program


class _DimSpec:
    """The user's dynamic shapes: as torch wants them, and the names that they give."""

    def __init__(self, given: DynamicShapes) -> None:
        self.given = given
        self.ranges: dict[str, DimRange] = {}
        self.for_torch = self._convert(given)

    def _convert(self, spec: Any) -> Any:
        if isinstance(spec, str):
            # AUTO, not a named Dim: torch.export may then relate it to other sizes, as a model
            # that concatenates caches needs.
            return Dim.AUTO
        if isinstance(spec, Mapping):
            return {k: self._convert(v) for k, v in spec.items()}
        if isinstance(spec, (list, tuple)):
            return type(spec)(self._convert(v) for v in spec)
        return spec

    def names(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[tuple[int, int], str]:
        """``(flat tensor index, axis)`` to the dimension's name."""
        if self.given is None:
            return {}
        if isinstance(self.given, Mapping):
            specs = list(self.given.values())
        else:
            specs = list(self.given)
        found: dict[tuple[int, int], str] = {}
        index = 0
        for value, spec in zip([*args, *kwargs.values()], specs, strict=False):
            index = self._walk(value, spec, index, found)
        return found

    def _walk(self, value: Any, spec: Any, index: int, found: dict[tuple[int, int], str]) -> int:
        if isinstance(value, torch.Tensor):
            axes = spec.items() if isinstance(spec, Mapping) else enumerate(spec or ())
            for axis, dim in axes:
                name = dim if isinstance(dim, str) else getattr(dim, "__name__", None)
                if isinstance(name, str):
                    found[index, axis] = name
            return index + 1
        if isinstance(value, Mapping):
            for key, item in value.items():
                index = self._walk(item, spec[key] if spec else None, index, found)
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                index = self._walk(item, spec[i] if spec else None, index, found)
        return index


def _output_names(exported: ExportedProgram) -> list[str] | None:
    """Names that say how the module returned each tensor."""
    out_spec = exported.call_spec.out_spec
    if out_spec is None:
        return None
    count = out_spec.num_leaves
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(list(range(count)), out_spec))
    from torch.export.graph_signature import ConstantArgument, OutputKind

    user = [s for s in exported.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    names: list[str] = []
    for (path, _), spec in zip(paths, user, strict=True):
        if isinstance(spec.arg, ConstantArgument):
            continue
        text = re.sub(r"\W+", "_", pytree.keystr(path)).strip("_")
        names.append("output" if not text else text if not text[0].isdigit() else f"output_{text}")
    return names


def _note_fixed_axes(program: Program, wanted: Mapping[tuple[int, int], str]) -> None:
    for (index, axis), name in wanted.items():
        if index < len(program.signature.inputs):
            spec = program.signature.inputs[index]
            if isinstance(spec.shape[axis], int):
                program.notes.append(
                    f"dimension {name!r} (axis {axis} of {spec.name!r}) is always {spec.shape[axis]}: "
                    "the model's code fixes it"
                )


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:500] or type(error).__name__


def _user_line(error: BaseException) -> str | None:
    """The innermost frame of the traceback that is not torch's: the user's own line."""
    import traceback

    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "/torch/" not in frame.filename and "graphopt" not in frame.filename:
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    return None
