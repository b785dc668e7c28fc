"""Operators of ``com.microsoft`` that files in use carry; importing this package fills the registry.

onnxruntime's graph optimiser, its quantiser and its model builders write them.  Their definition is
onnxruntime's schema and CPU kernel.
"""

from graphopt.frontends.onnx.converters.contrib import (
    activation,
    attention,
    embedding,
    fused,
    group_query_attention,
    matmul_nbits,
    normalization,
    quantized_elementwise,
    quantized_matmul,
    quantized_pooling,
    rotary,
)

__all__ = [
    "activation",
    "attention",
    "embedding",
    "fused",
    "group_query_attention",
    "matmul_nbits",
    "normalization",
    "quantized_elementwise",
    "quantized_matmul",
    "quantized_pooling",
    "rotary",
]
