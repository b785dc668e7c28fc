"""Capture of ``nn.Module`` objects through ``torch.export``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from graphopt._torch import is_constraint_violation, recurrent_layers_of_any_length
from graphopt.errors import InputError
from graphopt.frontends.deferred import broken_assumption
from graphopt.frontends.dynamic_shapes import DynamicAxes, DynamicShapes
from graphopt.ir.program import Program


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
        dynamic_shapes: as ``torch.export.export`` takes it, one entry an argument (those that
            ``*args`` collects one by one).  An axis may also be given a plain name,
            ``{0: "batch", 1: "sequence"}``: the axes of one name are the same dimension.  The
            example may have size 1 there.
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
    axes = DynamicAxes(dynamic_shapes)
    args, kwargs = axes.without_ones(args, kwargs)
    try:
        exported = _export(module, args, kwargs, axes)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"torch.export cannot capture {type(module).__name__}: {_first_lines(error)}",
            code="GO-3007",
            layer=_user_line(error),
        ) from error
    dim_names = axes.names(args, kwargs)
    program = Program.from_exported(
        exported,
        input_names=input_names,
        output_names=output_names or _output_names(exported),
        dim_names=dim_names,
    )
    _note_fixed_axes(program, dim_names)
    return program


def _export(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], axes: DynamicAxes
) -> ExportedProgram:
    """torch.export with the axes as the user names them, or as torch.export finds them.

    Guards are deferred to run time, and then looked at here: torch.export cannot decide some that
    always hold, such as those on the strides of a cache's grouped heads, and would refuse the model.
    A plain name promises no range, so where the model's code fixes an axis or ties it to another,
    the axis becomes what the code makes of it, and the program's notes say so.

    Raises:
        InputError: GO-3007, when the code does not work for all sizes that a ``Dim`` promises.
    """

    def run(dynamic_shapes: Any, *, defer: bool) -> ExportedProgram:
        with recurrent_layers_of_any_length(), warnings.catch_warnings():
            # torch's own recurrent layers keep a list of their weights, and are warned about.
            warnings.filterwarnings("ignore", r"The tensor attributes? self\..*_flat_weights", UserWarning)
            return torch.export.export(
                module,
                args,
                kwargs,
                dynamic_shapes=dynamic_shapes,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=defer,
            )

    try:
        exported = run(axes.named(module), defer=True)
        broken = broken_assumption(exported)
        if broken is None:
            return exported
        if not axes.uses_plain_names:
            raise InputError(
                f"{type(module).__name__} does not work for every size that dynamic_shapes promises: "
                f"it needs {broken}",
                code="GO-3007",
                hint="narrow the ranges, or give the axis a plain name to let the code decide",
            )
    except Exception as error:
        if not (axes.uses_plain_names and is_constraint_violation(error)):
            raise
    return run(axes.automatic(module), defer=False)


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
