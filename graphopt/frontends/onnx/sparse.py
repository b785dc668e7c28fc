"""Sparse initialisers become dense ones: torch's operators take no others."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import GraphProto, SparseTensorProto, numpy_helper

from graphopt.errors import InputError
from graphopt.frontends.onnx.limits import LARGEST_SPARSE
from graphopt.frontends.onnx.vetting import graphs


def densify(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its sparse initialisers as dense ones; the model itself where it has none.

    Raises:
        InputError: GO-3003, indices or values do not fit the tensor's shape; GO-3006, it has more than
            :data:`~graphopt.frontends.onnx.limits.LARGEST_SPARSE` elements.
    """
    if not any(graph.sparse_initializer for graph in graphs(proto)):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for graph in graphs(copy):
        _densify_graph(graph)
    return copy


def _densify_graph(graph: GraphProto) -> None:
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        graph.initializer.append(numpy_helper.from_array(dense_array(sparse), name))
    del graph.sparse_initializer[:]


def dense_array(sparse: SparseTensorProto) -> np.ndarray:
    """The values of a sparse tensor in their places; everything else is zero.

    Indices are of shape [count], into the flattened tensor, or [count, rank].
    """
    name, dims = sparse.values.name or "(unnamed)", list(sparse.dims)
    if any(d < 0 for d in dims) or math.prod(dims) > LARGEST_SPARSE:
        raise InputError(
            f"sparse tensor {name!r} has shape {dims[:8]}; at most {LARGEST_SPARSE} elements are supported",
            code="GO-3006",
        )
    try:
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    except Exception as error:  # numpy rejects damaged data in many ways
        raise InputError(
            f"the data of sparse tensor {name!r} cannot be read: {error}", code="GO-3003"
        ) from error
    shapes = {1: (values.size,), 2: (values.size, len(dims))}
    if values.ndim != 1 or indices.dtype != np.int64 or indices.shape != shapes.get(indices.ndim):
        raise InputError(
            f"sparse tensor {name!r} has values of shape {list(values.shape)} and indices of shape "
            f"{list(indices.shape)}, which do not belong together",
            code="GO-3003",
        )
    limits = np.array(dims if indices.ndim == 2 else [math.prod(dims)])
    if ((indices < 0) | (indices >= limits)).any():
        raise InputError(f"sparse tensor {name!r} has an index outside its shape {dims}", code="GO-3003")
    dense = np.zeros(dims, values.dtype)
    dense[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, dims)] = values
    return dense
