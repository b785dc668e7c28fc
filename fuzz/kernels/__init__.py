"""Random kernels for the code generator: each family of schedule rules over sizes that do not fit it.

A schedule is right on the sizes that its author had in mind.  Here sizes are 1, primes, one more and one
less than a vector, known or symbolic; and whatever is compiled has to compute what the program computes,
by the rule of :mod:`graphopt.verification`, whose reference is float64.
"""

from __future__ import annotations

import torch

from graphopt.fuzz.kernels.case import KernelCase, KernelFamily
from graphopt.fuzz.kernels.convolutions import convolution, convolution_1d, transposed_convolution, winograd
from graphopt.fuzz.kernels.elements import elements, gather, integer_rows, pooling, resize, rows
from graphopt.fuzz.kernels.integers import integer_convolution, integer_linear
from graphopt.fuzz.kernels.products import attention, decoding, linear, matmul, strassen_product
from graphopt.fuzz.kernels.sequences import recurrent

__all__ = ["FAMILIES", "KernelCase", "KernelFamily"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)
BYTES = (torch.int8, torch.uint8)

FAMILIES: tuple[KernelFamily, ...] = (
    KernelFamily("linear", "packed-product", FLOATS, linear),
    KernelFamily("matmul", "contraction", (*FLOATS, torch.int32), matmul),
    KernelFamily("attention", "injective", FLOATS, attention),
    KernelFamily("decoding", "split-attention", (torch.float32, torch.float32, torch.bfloat16), decoding),
    KernelFamily("conv", "packed-product", FLOATS, lambda r, d: convolution(r, d, "dense")),
    KernelFamily("winograd-conv", "winograd", (torch.float32,), winograd),
    KernelFamily("strassen-product", "strassen", (torch.float32,), strassen_product),
    KernelFamily("depthwise-conv", "packed-product", FLOATS, lambda r, d: convolution(r, d, "depthwise")),
    KernelFamily("grouped-conv", "packed-product", FLOATS, lambda r, d: convolution(r, d, "grouped")),
    KernelFamily("conv1d", "packed-product", FLOATS, convolution_1d),
    KernelFamily("transposed-conv", "packed-product", FLOATS, transposed_convolution),
    KernelFamily("recurrent", "recurrence", (torch.float32,) * 5 + (torch.float64,), recurrent),
    KernelFamily("integer-linear", "packed-product", BYTES, integer_linear),
    KernelFamily("integer-conv", "packed-product", BYTES, lambda r, d: integer_convolution(r, d, False)),
    KernelFamily(
        "integer-depthwise-conv", "packed-product", BYTES, lambda r, d: integer_convolution(r, d, True)
    ),
    KernelFamily("pooling", "contraction", FLOATS, pooling),
    KernelFamily("resize", "injective", FLOATS, resize),
    KernelFamily("rows", "row-reduction", FLOATS, rows),
    KernelFamily("integer-rows", "row-reduction", INTEGERS, integer_rows),
    KernelFamily("elements", "injective", (*FLOATS, *INTEGERS), elements),
    KernelFamily("gather", "injective", (*FLOATS, torch.int64), gather),
)
