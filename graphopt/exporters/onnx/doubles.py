"""float64 in ONNX: numbers with all their digits, and operators that would lose them.

An epsilon of 1e-5 or a slope of 0.01 is an attribute of a node, and attributes are float32: the result
has the digits of float32.  torch's decompositions have such numbers as operands; a program with one of
these operators in float64 is decomposed there.  ``Conv``, ``Erf`` and the like stay: they are right as
they are, though onnxruntime has no kernels of them for its CPU.
"""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch.export import ExportedProgram

from graphopt._torch import PYTHON_NUMBER

aten = torch.ops.aten

DECOMPOSED = frozenset(
    {
        aten.layer_norm.default,
        aten.native_layer_norm.default,
        aten.group_norm.default,
        aten.native_group_norm.default,
        aten.instance_norm.default,
        aten._native_batch_norm_legit.no_stats,
        aten.rms_norm.default,
        aten._fused_rms_norm.default,
        aten.prelu.default,
        aten._prelu_kernel.default,
        aten.selu.default,
        aten.hardsigmoid.default,
        aten.hardswish.default,
        aten.mish.default,
        aten.gelu.default,
        aten.softplus.default,
    }
)


def has_doubles(exported: ExportedProgram) -> bool:
    """Whether a program has one of these operators in float64."""
    return any(
        node.target in DECOMPOSED and _is_double(node.meta.get("val"))
        for node in exported.graph.nodes
        if node.op == "call_function"
    )


def _is_double(value: object) -> bool:
    first = value[0] if isinstance(value, (list, tuple)) else value
    return isinstance(first, torch.Tensor) and first.dtype == torch.float64


def exact_numbers(model: ir.Model) -> None:
    """Makes Python floats that are converted to float64 constants of it; torch.onnx makes float32 of all."""
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type not in ("Cast", "CastLike") or node.inputs[0] is None:
            continue
        number = node.inputs[0].meta.get(PYTHON_NUMBER)
        if number is None or _target(node) != ir.DataType.DOUBLE:
            continue
        constant = ir.node("Constant", [], {"value": ir.tensor(number, dtype=ir.DataType.DOUBLE)})
        constant.outputs[0].dtype, constant.outputs[0].shape = ir.DataType.DOUBLE, ir.Shape([])
        assert node.graph is not None
        node.graph.insert_before(node, constant)
        node.replace_input_with(0, constant.outputs[0])


def _target(node: ir.Node) -> ir.DataType | None:
    if node.op_type == "Cast":
        return ir.DataType(node.attributes["to"].as_int())
    return node.inputs[1].dtype if node.inputs[1] is not None else None
