"""``import_onnx``: from an ONNX model to a :class:`Program`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch.export import Dim, ExportedProgram
from torch.fx import traceback as fx_traceback

import graphopt.frontends.onnx.converters  # noqa: F401  (fills the registry)
from graphopt._torch import recurrent_layers_of_any_length
from graphopt.errors import GraphoptError, InputError, UsageError, did_you_mean
from graphopt.frontends.onnx.dims import (
    Dimension,
    DimSpec,
    InputShape,
    apply_user_dims,
    read_dimensions,
)
from graphopt.frontends.onnx.dtypes import torch_dtype
from graphopt.frontends.onnx.functions import Definitions
from graphopt.frontends.onnx.interpreter import OnnxModule
from graphopt.frontends.onnx.loading import load_model
from graphopt.frontends.onnx.narrowing import narrow
from graphopt.frontends.onnx.probe import Facts, learn_facts
from graphopt.frontends.onnx.support import check_supported
from graphopt.ir.program import Program
from graphopt.ir.signature import DimRange
from graphopt.onnx_metadata import model_metadata


def import_onnx(
    source: str | os.PathLike[str] | onnx.ModelProto,
    *,
    dims: Mapping[str, DimSpec] | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    constants: Mapping[str, np.ndarray | None] | None = None,
    base_dir: str | os.PathLike[str] | None = None,
) -> Program:
    """The program of an ONNX model.

    Inputs, outputs and dimensions keep the file's names.  Axes that the file leaves open stay dynamic
    where the model allows it; ``Program.notes`` tells which had to be fixed or restricted, and by
    which node.  Float weights are parameters that require gradients.

    Args:
        source: path of the model, or the model in memory.
        dims: what dynamic dimensions may be: ``{"batch": 1, "height": (32, 1024),
            "width": DimRange(32, 1024, multiple_of=32)}``.
        shapes: shapes of inputs for which the file gives none; entries are sizes or dimension names.
            For an input that is a sequence, a list with the shape of each element.
        constants: values for graph inputs that are to be part of the program (a shape or an axis
            that the model takes as an input); None for an optional input that is not given.
        base_dir: folder of external data, when ``source`` is a model in memory.

    Raises:
        InputError: the file is missing, damaged or not ONNX (GO-3001 to GO-3004); it uses operators that
            are not supported, all of them listed (GO-3005); a node is used in a way that is not
            supported (GO-3006).
        UsageError: ``dims``, ``shapes`` or ``constants`` name something that the model lacks.
    """
    model = load_model(source, Path(base_dir) if base_dir is not None else None)
    definitions = Definitions(model)
    check_supported(model, definitions)
    _check_names("input", [*(shapes or {}), *(constants or {})], [str(v.name) for v in model.graph.inputs])
    module = OnnxModule(model, definitions, constants, shapes)
    inputs = module.graph_inputs
    dtypes = [_input_dtype(v) for v in inputs]
    input_shapes, dimensions = read_dimensions(inputs, shapes)
    apply_user_dims(input_shapes, dimensions, dims or {})

    notes: list[str] = []
    while True:
        module.share_axes(input_shapes)
        facts = learn_facts(module, input_shapes, dtypes, dimensions)
        probed = dict(facts.sizes)
        notes += narrow(facts, input_shapes, dimensions)
        # Sizes chosen after the run have to be tried too; each round fixes a dimension for good.
        if facts.sizes == probed:
            break
    module.share_axes(input_shapes)
    exported = _export(module, input_shapes, dtypes, dimensions, facts)
    program = Program.from_exported(
        exported,
        input_names=[str(v.name) for v in inputs],
        output_names=_unique(module.output_names),
        dim_names={(a.input, a.axis): d.name for d in dimensions.values() for a in d.axes},
        dim_ranges={d.name: d.range for d in dimensions.values()},
    )
    program.metadata.update(model_metadata(model))
    program.notes.extend([*module.notes, *notes, *_related(program, dimensions)])
    return program


def _related(program: Program, dimensions: Mapping[str, Dimension]) -> list[str]:
    """Notes on the dimensions that torch.export found to depend on others."""
    notes: list[str] = []
    for dimension in dimensions.values():
        place = dimension.axes[0]
        have = program.signature.inputs[place.input].shape[place.axis]
        if have != dimension.name:
            notes.append(f"dimension {dimension.name!r} is always {have}")
    return notes


def _export(
    module: OnnxModule,
    shapes: Sequence[InputShape],
    dtypes: Sequence[torch.dtype],
    dimensions: Mapping[str, Dimension],
    facts: Facts,
) -> ExportedProgram:
    # Tracing looks at no element: memory that nobody writes to is only reserved.
    examples = tuple(
        torch.empty([s if isinstance(s, int) else facts.sizes[s] for s in spec.shape], dtype=dtype)
        for spec, dtype in zip(shapes, dtypes, strict=True)
    )
    roots = {d.name: _torch_dim(d) for d in dimensions.values()}
    dynamic = tuple({i: roots[s] for i, s in enumerate(spec.shape) if isinstance(s, str)} for spec in shapes)
    try:
        with fx_traceback.preserve_node_meta(), recurrent_layers_of_any_length():
            # A module takes *inputs, so its dynamic shapes are one tuple.
            shapes_of = (dynamic,) if examples else None
            return torch.export.export(module, examples, dynamic_shapes=shapes_of, strict=False)
    except GraphoptError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(
            f"torch.export cannot capture the model: {' '.join(lines[:3])[:500]}", code="GO-3007"
        ) from error


def _torch_dim(dimension: Dimension) -> Any:
    bounds = dimension.range
    if bounds.multiple_of == 1:
        # AUTO: torch may relate the dimension to others, as the model demands.
        return Dim.AUTO(min=bounds.min, max=bounds.max)
    low = -(-bounds.min // bounds.multiple_of)
    high = None if bounds.max is None else bounds.max // bounds.multiple_of
    return bounds.multiple_of * Dim(f"_{dimension.name}", min=low, max=high)


def _input_dtype(value: ir.Value) -> torch.dtype:
    if not isinstance(value.type, ir.TensorType):
        raise InputError(
            f"input {value.name!r} is not a tensor (sequence, optional or sparse)", code="GO-3006"
        )
    return torch_dtype(value.type.dtype, f"input {value.name!r}")


def _check_names(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"{kind}s: {', '.join(known)}"
            raise UsageError(f"the model has no {kind} {name!r}", hint=hint)


def _unique(names: Sequence[str]) -> list[str]:
    """Names of outputs; a graph may list one value twice."""
    result: list[str] = []
    for name in names:
        label, count = name, 1
        while label in result:
            count += 1
            label = f"{name}_{count}"
        result.append(label)
    return result


__all__ = ["DimRange", "import_onnx"]
