"""Random weights under which an error in any layer shows in the output.

The initial values that model libraries give are degenerate for testing: BatchNorm with mean 0 and
variance 1 is the identity, a LayerScale of 1e-6 hides its whole branch, biases are zero, and norms of
equal value are merged by exporters.  :func:`randomise` replaces all of them.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def randomise(module: M, seed: int = 0) -> M:
    """Fill every parameter and every BatchNorm buffer in place; returns ``module`` in eval mode.

    Matrices and kernels are normal with variance 1/fan_in (activations keep their scale), embeddings
    normal with deviation 0.3, norm weights uniform in [0.6, 1.4], biases and running means normal
    with deviation 0.1, running variances uniform in [0.6, 1.4].  Shared parameters are drawn once.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, deviation: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)

    def around_one(tensor: torch.Tensor) -> None:
        tensor.copy_(0.6 + 0.8 * torch.rand(tensor.shape, generator=generator))

    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim >= 2 and id(parameter) in embeddings:
                normal(parameter, 0.3)
            elif parameter.ndim >= 2:
                normal(parameter, _matrix_deviation(name, parameter))
            elif name.endswith("bias"):
                normal(parameter, 0.1)
            else:  # weights of norms, and layer scales
                around_one(parameter)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                normal(buffer, 0.1)
            elif name.endswith("running_var"):
                around_one(buffer)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


def _matrix_deviation(name: str, parameter: torch.Tensor) -> float:
    """1/sqrt(fan_in); tables that are not multiplied (position biases, tokens, queries) get 0.3."""
    if any(part in name for part in ("position", "cls_token", "relative_", "query_position")):
        return 0.3
    return 1.0 / math.sqrt(parameter[0].numel())


def token_ids(shape: tuple[int, ...], vocabulary: int, seed: int = 1) -> torch.Tensor:
    """Token ids drawn evenly from the vocabulary, int64; the first and the last id are present."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, vocabulary, shape, generator=generator)
    flat = ids.view(-1)
    flat[0] = 0
    flat[-1] = vocabulary - 1 if flat.numel() > 1 else 0
    return ids


def image(batch: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    """A normalised picture, NCHW float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator)
