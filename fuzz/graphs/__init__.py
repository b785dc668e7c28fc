"""Graphs of the fuzzer: plain data, the tensors of their leaves, and the programs made of them."""

from graphopt.fuzz.graphs.build import build_module, build_program, graph_of, operator_named, resolved
from graphopt.fuzz.graphs.graph import Argument, Call, Graph, Leaf, Ref, TorchConstant, references
from graphopt.fuzz.graphs.values import draw_inputs, draw_leaf, draw_weights, dtype_named

__all__ = [
    "Argument",
    "Call",
    "Graph",
    "Leaf",
    "Ref",
    "TorchConstant",
    "build_module",
    "build_program",
    "draw_inputs",
    "draw_leaf",
    "draw_weights",
    "dtype_named",
    "graph_of",
    "operator_named",
    "references",
    "resolved",
]
