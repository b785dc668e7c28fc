"""Models of one node, and how they are compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from graphopt.frontends.onnx import import_onnx
from graphopt.ir.program import Program
from graphopt.verification import OnnxRuntimeRunner, verify

MICROSOFT = "com.microsoft"


def single_node(
    op_type: str,
    inputs: Mapping[str, np.ndarray | None],
    outputs: Sequence[np.dtype | type | None] = (np.float32,),
    *,
    constants: Sequence[str] = (),
    domain: str = MICROSOFT,
    opset: int = 17,
    ranks: Sequence[int] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node.

    Args:
        inputs: the node's inputs in order, None for an absent one; those that are not ``constants`` become
            inputs of the model, in which every axis is static.
        outputs: element types of the node's outputs, None for one that is not asked for.
        ranks: of the outputs; default: what onnxruntime computes.
    """
    names = [name if array is not None else "" for name, array in inputs.items()]
    results = [f"y{i}" if dtype is not None else "" for i, dtype in enumerate(outputs)]
    node = helper.make_node(op_type, names, results, name="node", domain=domain, **attributes)
    if op_type == "QLinearSoftmax":
        node.attribute.append(helper.make_attribute("opset", opset))  # the name of a parameter here
    given = {n: a for n, a in inputs.items() if a is not None}
    graph = helper.make_graph(
        [node],
        "single",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in given.items()
            if n not in constants
        ],
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(d)), None)
            for n, d in zip(results, outputs, strict=True)
            if d is not None
        ],
        [numpy_helper.from_array(given[n], n) for n in constants],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if ranks is None:
        # onnx has no shape inference for these operators; onnxruntime takes outputs without shapes.
        ranks = [y.ndim for y in OnnxRuntimeRunner(model.SerializeToString())(*feed(model, inputs))]
    for value, rank in zip(model.graph.output, ranks, strict=True):
        value.type.tensor_type.shape.CopyFrom(
            onnx.TensorShapeProto(dim=[onnx.TensorShapeProto.Dimension()] * rank)
        )
    return model


def feed(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray | None]) -> list[torch.Tensor]:
    return [torch.from_numpy(inputs[i.name]) for i in model.graph.input]  # type: ignore[arg-type]


def agrees(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray | None]) -> Program:
    """Imports the model and holds it to the noise rule on the given inputs."""
    program = import_onnx(model).check()
    runner = OnnxRuntimeRunner(model.SerializeToString())
    verify(program, runner, inputs=[feed(model, inputs)], runs=4).raise_if_failed()
    return program


def equals(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray | None]) -> Program:
    """Imports the model; every number of every output is the one that onnxruntime gives."""
    program = import_onnx(model).check()
    given = feed(model, inputs)
    expected = OnnxRuntimeRunner(model.SerializeToString())(*given)
    for got, want in zip(program(*given), expected, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert int((got != want).sum()) == 0, f"{int((got != want).sum())} of {want.numel()} differ"
    return program


def has_integer_products_only(program: Program) -> bool:
    """Whether no product or convolution of the program is computed in floats."""
    names = ("matmul", "mm", "bmm", "linear", "convolution", "conv1d", "conv2d", "conv3d")
    products = [n for n in program.operator_nodes() if str(n.target).split(".")[1] in names]
    return bool(products) and all(n.meta["val"].dtype == torch.int32 for n in products)
