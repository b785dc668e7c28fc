"""The tensors of a graph's leaves: the same ones for the same seed, and odd layouts in memory."""

from __future__ import annotations

import hashlib
import math

import torch

from graphopt.fuzz.graphs.graph import Graph, Leaf


def dtype_named(name: str) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        ValueError: there is none.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is not a dtype")
    return dtype


def draw_leaf(leaf: Leaf, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """A tensor for a leaf; equal seeds give equal tensors, whatever the other leaves of the graph are.

    Args:
        shape: the leaf's, with a number for each dynamic axis.
    """
    dtype = dtype_named(leaf.dtype)
    if leaf.given is not None:
        return torch.tensor(leaf.given, dtype=dtype).reshape(shape)
    digest = hashlib.sha256(f"{seed} {leaf.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    if leaf.layout == "strided" and shape:
        wide = _elements(leaf, (*shape[:-1], 2 * shape[-1]), dtype, generator)
        return wide[..., ::2]
    if leaf.layout == "transposed" and len(shape) > 1:
        turned = _elements(leaf, (*shape[:-2], shape[-1], shape[-2]), dtype, generator)
        return turned.transpose(-1, -2)
    return _elements(leaf, shape, dtype, generator)


def _elements(
    leaf: Leaf, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> torch.Tensor:
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if dtype.is_complex:
        return torch.complex(*(torch.randn(shape, generator=generator) for _ in range(2))).to(dtype)
    if not dtype.is_floating_point or leaf.values == "integers":
        return torch.randint(leaf.low, leaf.high + 1, shape, generator=generator).to(dtype)
    if leaf.values == "positive":
        return (torch.rand(shape, generator=generator) + 0.5).to(dtype)
    if leaf.values == "unit":
        return torch.rand(shape, generator=generator).to(dtype)
    return torch.randn(shape, generator=generator).to(dtype)


def draw_inputs(graph: Graph, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Tensors for the inputs, in order."""
    return tuple(draw_leaf(leaf, graph.size_of(leaf), seed) for leaf in graph.inputs)


def draw_weights(graph: Graph, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors for the weights, by name; see :func:`draw_weight`."""
    return {leaf.name: draw_weight(leaf, graph.size_of(leaf), seed) for leaf in graph.weights}


def draw_weight(leaf: Leaf, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """A tensor for a weight.  Large products keep their scale: normal ones are divided by the square root
    of what one output element sums over."""
    tensor = draw_leaf(leaf, shape, seed)
    if leaf.given is None and leaf.values == "normal" and tensor.is_floating_point() and tensor.ndim > 1:
        return tensor / math.sqrt(max(1, tensor[:1].numel()))
    return tensor
