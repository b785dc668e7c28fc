"""Rewrites of the exported graph for what torch.onnx cannot translate where it stands."""

from __future__ import annotations

import json
import math
from typing import Any

import sympy
import torch
from torch import fx
from torch.export import ExportedProgram

from graphopt.errors import InputError
from graphopt.ir.provenance import origin

aten = torch.ops.aten

ORIGIN = "graphopt"
"""Key in a node's ``meta["custom"]``, which torch carries through decompositions."""


def remember_origins(exported: ExportedProgram) -> None:
    """Put each node's origin where decompositions keep it."""
    for node in exported.graph.nodes:
        known = origin(node)
        custom: dict[str, Any] = dict(node.meta.get("custom") or {})
        custom[ORIGIN] = json.dumps([list(known.layers), list(known.made_by), str(node.target)])
        node.meta["custom"] = custom


def origin_of(node: fx.Node) -> tuple[list[str], list[str], str]:
    """Layers, rewrites and operator that a node of a prepared graph comes from."""
    known = (node.meta.get("custom") or {}).get(ORIGIN)
    layers, made_by, target = json.loads(known) if known else ([], [], str(node.target))
    return layers, made_by, target


def legalize(exported: ExportedProgram) -> None:
    """Rewrites calls in place; shapes and dtypes of results stay."""
    for node in exported.graph.nodes:
        if node.op != "call_function":
            continue
        _refuse_integers(node)
        if node.target is aten.sub.Tensor and not node.kwargs and _subtracts_nothing(exported, node):
            # ConvInteger takes one zero point for all channels; without any, it takes every weight.
            node.replace_all_uses_with(node.args[0])
            continue
        if node.target is aten.chunk.default and len(node.meta["val"]) == 1:
            # Of constants, onnxscript folds a Split into one part to the first row of it.
            for part in list(node.users):
                part.replace_all_uses_with(node.args[0])
            continue
        if node.target in _LOGICAL and all(map(_is_boolean, node.args[:2])) and _is_boolean(node):
            # ONNX Add and Mul take no booleans; on booleans they are Or and And.
            node.target = _LOGICAL[node.target]
            node.kwargs = {}
        elif node.target in _SCALED and len(node.args) == 3:
            # torch.onnx's promotion of types takes no positional alpha.
            node.args = (node.args[0], node.args[1] * node.args[2])  # type: ignore[operator]
        elif (position := _RESIZES.get(node.target)) is not None:  # type: ignore[call-overload]
            _resize_by_factor(node, position)
    exported.graph.eliminate_dead_code(is_impure_node=lambda n: n.op in ("placeholder", "output"))
    exported.graph_module.recompile()


_FLOATS_ONLY = {
    aten.avg_pool1d.default,
    aten.avg_pool2d.default,
    aten.avg_pool3d.default,
    aten.conv_transpose1d.default,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
    *(
        getattr(getattr(aten, f"upsample_{rule}"), overload)
        for rule in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")
        for overload in ("default", "vec")
    ),
}
"""Operators that torch computes of integers, ONNX does not, and no detour is exact."""


def _refuse_integers(node: fx.Node) -> None:
    transposed = node.target is aten.convolution.default and node.args[6]
    if node.target not in _FLOATS_ONLY and not transposed:
        return
    source = node.args[0]
    if isinstance(source, fx.Node) and not source.meta["val"].dtype.is_floating_point:
        layers, _, target = origin_of(node)
        raise InputError(
            f"{target} of integers has no ONNX form", code="GO-3006", node=node.name, layer=", ".join(layers)
        )


def _subtracts_nothing(exported: ExportedProgram, node: fx.Node) -> bool:
    """Whether an integer tensor is less a constant of zeros, and neither shape nor type changes by it."""
    source, zeros = node.args
    if not isinstance(source, fx.Node) or not isinstance(zeros, fx.Node):
        return False
    before, after = source.meta["val"], node.meta["val"]
    if before.dtype.is_floating_point or (before.dtype, before.shape) != (after.dtype, after.shape):
        return False
    while zeros.target in (aten.reshape.default, aten.view.default, aten.to.dtype, aten._to_copy.default):
        zeros = zeros.args[0]  # type: ignore[assignment]
        assert isinstance(zeros, fx.Node)
    signature = exported.graph_signature
    names: dict[str, str] = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    name = names.get(zeros.name, "")
    value = exported.state_dict.get(name, exported.constants.get(name))
    return isinstance(value, torch.Tensor) and value.numel() <= _CHANNELS and not value.any()


_CHANNELS = 2**16
"""Numbers of a constant that are worth looking at: zero points are as many as channels."""

_LOGICAL = {
    aten.add.Tensor: aten.logical_or.default,
    aten.mul.Tensor: aten.logical_and.default,
}

_SCALED = {aten.add.Scalar, aten.sub.Scalar}

# Position of `scale_factors` in the schema; `output_size` is always the second operand.
_RESIZES = {
    aten.upsample_nearest1d.vec: 2,
    aten.upsample_nearest2d.vec: 2,
    aten.upsample_linear1d.vec: 3,
    aten.upsample_bilinear2d.vec: 3,
    aten.upsample_bicubic2d.vec: 3,
}


def _resize_by_factor(node: fx.Node, position: int) -> None:
    """Give a resize to symbolic sizes its factors, where the sizes are multiples of the input's.

    Sizes that are computed at run time become a chain of Shape, Mul and Concat in front of Resize.
    """
    source, sizes = node.args[:2]
    if not isinstance(source, fx.Node) or not isinstance(sizes, (list, tuple)):
        return
    before, after = (n.meta["val"].shape[-len(sizes) :] for n in (source, node))
    factors = [_ratio(large, small) for large, small in zip(after, before, strict=True)]
    if all(isinstance(size, int) for size in after) or None in factors:
        return
    args = [*node.args, *[None] * 4][: position + 1]
    args[1], args[-1] = None, factors
    node.args = tuple(args)


def _ratio(large: int | torch.SymInt, small: int | torch.SymInt) -> float | None:
    """``large / small`` if it is one power of two whatever the symbols are; then it is exact."""
    a, b = (
        sympy.sympify(size.node.expr if isinstance(size, torch.SymInt) else size) for size in (large, small)
    )
    ratio = sympy.cancel(a / b)
    if not ratio.is_Rational or ratio <= 0:
        return None
    value = float(ratio)
    return value if math.frexp(value)[0] == 0.5 else None


def _is_boolean(value: Any) -> bool:
    return (
        isinstance(value, fx.Node)
        and isinstance(value.meta.get("val"), torch.Tensor)
        and value.meta["val"].dtype == torch.bool
    )
