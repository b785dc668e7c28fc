"""The opset that a program is written for: the default, or a newer one whose operators it needs."""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnxscript import version_converter
from torch import fx
from torch.export import ExportedProgram

from graphopt.errors import InputError, InternalError
from graphopt.exporters.onnx.bits import is_a_cast

aten = torch.ops.aten

DEFAULT_OPSET = 23
"""The newest opset whose operators pay: Attention and RMSNormalization came with it, nothing that is
exported with 24 and 25, and onnxruntime 1.31 runs all of its operators that are exported."""

OPSETS = range(18, 27)
"""torch.onnx translates to 18 and converts upwards; onnxruntime 1.31 has kernels up to 26."""

_CONVERTED = 25
"""The last opset that onnxscript 0.7 converts to."""


def chosen_opset(exported: ExportedProgram, wanted: int | None) -> int:
    """The opset to write: as wanted, or the default unless an operator came with a newer one.

    Raises:
        InputError: it is not supported (GO-3001), or an operator came after the one that is wanted (GO-3006).
    """
    if wanted is not None and wanted not in OPSETS:
        raise InputError(
            f"cannot export with opset {wanted}",
            hint=f"opsets {OPSETS.start} to {OPSETS.stop - 1} are supported",
        )
    opset = DEFAULT_OPSET if wanted is None else wanted
    for node in exported.graph.nodes:
        needed, what = _needed(node)
        if needed <= opset:
            continue
        if wanted is not None:
            raise InputError(
                f"{what} came with opset {needed}",
                code="GO-3006",
                node=node.name,
                hint=f"export with opset {needed}, or leave the opset out",
            )
        opset = needed
    return opset


def _needed(node: fx.Node) -> tuple[int, str]:
    """The first opset that has a form of a call, and what came with it."""
    return max(_for_operator(node), _for_type(node))


def _for_type(node: fx.Node) -> tuple[int, str]:
    value = node.meta.get("val")
    name = str(value.dtype) if isinstance(value, torch.Tensor) else ""
    if "float8_e8m0" in name:
        return 24, "float8_e8m0"
    return (19, "float8") if "float8" in name else (OPSETS.start, "")


def _for_operator(node: fx.Node) -> tuple[int, str]:
    if node.target is aten.view.dtype and isinstance(node.args[0], fx.Node):
        source, target = (
            ir.tensor_adapters.from_torch_dtype(d) for d in (_dtype(node.args[0]), _dtype(node))
        )
        if not is_a_cast(source, target):
            return 26, "BitCast"
    if node.target is aten.cumprod.default and isinstance(node.args[0], fx.Node):
        shape = node.args[0].meta["val"].shape
        if len(shape) and not isinstance(shape[int(node.args[1])], int):  # type: ignore[arg-type]
            return 26, "CumProd"
    return OPSETS.start, ""


def _dtype(node: fx.Node) -> Any:
    return node.meta["val"].dtype


def convert(model: ir.Model, opset: int) -> None:
    """Brings a model, whose nodes are of opset 18 but for those that only a newer one has, to an opset."""
    newest = {node for node in model.graph.all_nodes() if (node.version or 0) > _CONVERTED}
    for node in newest:
        node.version = None
    version_converter.convert_version(model, min(opset, _CONVERTED), fallback=True)
    if opset <= _CONVERTED:
        return
    for node in model.graph.all_nodes():
        if node.domain == "" and node not in newest:
            _check_unchanged(node, opset)
        node.version = opset
    model.opset_imports[""] = opset


def _check_unchanged(node: ir.Node, opset: int) -> None:
    """A node of the last opset that onnxscript knows means the same in a newer one, if its schema does."""
    before, after = (
        onnx.defs.get_schema(node.op_type, version).since_version for version in (_CONVERTED, opset)
    )
    if before != after:
        raise InternalError(f"{node.op_type} changed with opset {after}", code="GO-1001")
