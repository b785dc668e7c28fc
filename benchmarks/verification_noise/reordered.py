"""A second, independent float32 implementation of the operators of the random graphs.

Everything is computed as other backends do it: sums in another order and in blocks, normalisations
folded or with ``E[x^2] - E[x]^2``, softmax by reciprocal, activations from their formulas.  All of it is
right, so an alarm on it is false.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

_BLOCK = 3


class Reordered(fx.Interpreter):
    """Runs a graph with the implementations of this module in place of ATen's."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = target._schema.name.split("::")[1] if isinstance(target, torch._ops.OpOverload) else ""
        own = _IMPLEMENTATIONS.get(name)
        return own(*args, **kwargs) if own is not None else target(*args, **kwargs)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Blocks of the inner dimension, from the last to the first."""
    total: Tensor | None = None
    for start in reversed(range(0, a.shape[-1], _BLOCK)):
        part = a[..., start : start + _BLOCK] @ b[..., start : start + _BLOCK, :]
        total = part if total is None else total + part
    assert total is not None
    return total


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = matmul(x, weight.t())
    return y if bias is None else bias + y


def sequential_sum(x: Tensor, dim: Sequence[int], keepdim: bool = False) -> Tensor:
    (axis,) = dim
    total = torch.zeros_like(x.select(axis, 0))
    for i in reversed(range(x.shape[axis])):
        total = total + x.select(axis, i)
    return total.unsqueeze(axis) if keepdim else total


def mean(x: Tensor, dim: Sequence[int], keepdim: bool = False) -> Tensor:
    return sequential_sum(x, dim, keepdim) * (1.0 / x.shape[dim[0]])


def variance(x: Tensor, dim: Sequence[int], correction: float | None = None, keepdim: bool = False) -> Tensor:
    n = x.shape[dim[0]]
    m = mean(x, dim, True)
    square = mean(x * x, dim, True)
    result = (square - m * m) * (n / (n - (1 if correction is None else correction)))
    return result if keepdim else result.squeeze(dim[0])


def softmax(x: Tensor, dim: int) -> Tensor:
    e = exp(x - x.amax(dim, keepdim=True))
    return e * sequential_sum(e, [dim], True).reciprocal()


def log_softmax(x: Tensor, dim: int) -> Tensor:
    return x - logsumexp(x, [dim], True)


def logsumexp(x: Tensor, dim: Sequence[int], keepdim: bool = False) -> Tensor:
    top = x.amax(dim[0], keepdim=True)
    y = top + sequential_sum(exp(x - top), dim, True).log()
    return y if keepdim else y.squeeze(dim[0])


def exp(x: Tensor) -> Tensor:
    return torch.exp2(x * (1 / math.log(2)))


def normalised(x: Tensor, eps: float) -> Tensor:
    m = mean(x, [-1], True)
    square = mean(x * x, [-1], True)
    return (x - m) / ((square - m * m).clamp(min=0) + eps).sqrt()


def layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return normalised(x, eps) * weight + bias


def rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor, eps: float | None) -> Tensor:
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    return x * (weight / (mean(x * x, [-1], True) + eps).sqrt())


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, m: Tensor, v: Tensor, *rest: Any) -> Tensor:
    scale = weight / (v + rest[2]).sqrt()
    shift = bias - m * scale
    return x * scale[:, None, None] + shift[:, None, None]


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    y = normalised(x.reshape(x.shape[0], groups, -1), eps).reshape(x.shape)
    return y * weight[:, None, None] + bias[:, None, None]


def conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    height, width = weight.shape[2:]
    columns = torch.nn.functional.unfold(x, (height, width), padding=tuple(padding))
    y = matmul(weight.reshape(weight.shape[0], -1), columns) + bias[:, None]
    size = [s + 2 * p - k + 1 for s, p, k in zip(x.shape[2:], padding, (height, width), strict=True)]
    return y.reshape(x.shape[0], weight.shape[0], *size)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: None, p: float, causal: bool) -> Tensor:
    scores = matmul(q * (q.shape[-1] ** -0.5), k.transpose(-1, -2))
    if causal:
        keep = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~keep, torch.finfo(torch.float32).min)
    return matmul(softmax(scores, -1), v)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return x * (0.5 * (1 + torch.erf(x * math.sqrt(0.5))))


def softplus(x: Tensor) -> Tensor:
    return torch.where(x > 20, x, (1 + exp(x)).log())


def avg_pool2d(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    patches = x.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    return mean(patches.reshape(*patches.shape[:4], -1), [-1])


def cumsum(x: Tensor, dim: int) -> Tensor:
    """A scan in blocks: each starts from the sum of those before."""
    parts, offset = [], torch.zeros_like(x.narrow(dim, 0, 1))
    for start in range(0, x.shape[dim], _BLOCK):
        part = x.narrow(dim, start, min(_BLOCK, x.shape[dim] - start)).cumsum(dim)
        parts.append(part + offset)
        offset = parts[-1].narrow(dim, part.shape[dim] - 1, 1)
    return torch.cat(parts, dim)


_IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "linear": linear,
    "matmul": matmul,
    "mean": mean,
    "sum": sequential_sum,
    "var": variance,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "batch_norm": batch_norm,
    "group_norm": group_norm,
    "conv2d": conv2d,
    "scaled_dot_product_attention": attention,
    "gelu": gelu,
    "softplus": softplus,
    "avg_pool2d": avg_pool2d,
    "exp": exp,
    "expm1": lambda x: exp(x) - 1,
    "log1p": lambda x: (x + 1).log(),
    "silu": lambda x: x / (1 + exp(-x)),
    "sigmoid": lambda x: (1 + exp(-x)).reciprocal(),
    "mish": lambda x: x * torch.tanh(softplus(x)),
    "log_sigmoid": lambda x: -softplus(-x),
    "elu": lambda x: torch.where(x > 0, x, exp(x) - 1),
    "div": lambda x, y: x * y.reciprocal(),
    "rsqrt": lambda x: x.sqrt().reciprocal(),
    "cumsum": cumsum,
}
