"""Random small graphs of ATen operators, built directly and much faster than by export."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from graphopt.ir.program import Program

aten = torch.ops.aten


class _Builder:
    """A graph under construction, with a real value for each node."""

    def __init__(self, seed: int, discrete: bool) -> None:
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.graph = fx.Graph()
        self.module = torch.nn.Module()
        self.values: dict[fx.Node, Any] = {}
        self.discrete = discrete

    def call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        node = self.graph.call_function(target, args, kwargs)
        concrete = fx.map_arg((args, kwargs), lambda n: self.values[n])
        self.values[node] = target(*concrete[0], **concrete[1])
        return node

    def input(self, shape: tuple[int, ...]) -> fx.Node:
        node = self.graph.placeholder(f"x{len(self.values)}")
        self.values[node] = torch.randn(shape, generator=self.generator)
        return node

    def weight(self, *shape: int, scale: float | None = None, positive: bool = False) -> fx.Node:
        value = torch.randn(shape, generator=self.generator)
        value = value.abs() + 0.5 if positive else value
        value = value * (scale if scale is not None else 1.0)
        name = f"w{len(self.values)}"
        self.module.register_buffer(name, value)
        node = self.graph.get_attr(name)
        self.values[node] = value
        return node

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(self.values[node].shape)


def random_program(seed: int, *, operators: int = 8, discrete: bool = False) -> Program:
    """A program of about ``operators`` random operators on one or two float32 inputs.

    Args:
        seed: equal seeds give equal programs.
        operators: steps; some emit two or three nodes.
        discrete: allow rounding, comparison and argmax, which make outputs unstable.
    """
    b = _Builder(seed, discrete)
    shape = b.random.choice([(4, 12), (2, 6, 10), (2, 4, 8, 8), (3, 8, 6, 6)])
    live = [b.input(shape)]
    if b.random.random() < 0.4:
        live.append(b.input(shape))
    for _ in range(operators):
        x = b.random.choice(live[-3:])
        y = b.random.choice(_steps(b, x))(b, x, b.random.choice(live))
        value = b.values[y]
        if not bool(value.isfinite().all()) or float(value.abs().max()) > 1e4 or value.numel() > 1 << 14:
            y = b.call(aten.clamp.default, b.call(aten.nan_to_num.default, y), -4.0, 4.0)
        live.append(y)
    sinks = [n for n in live if not n.users][-3:] or [live[-1]]
    b.graph.output(tuple(sinks))
    module = fx.GraphModule(b.module, b.graph)
    inputs = [b.values[n] for n in b.graph.find_nodes(op="placeholder")]
    return Program.from_graph_module(module, inputs)


Step = Callable[[_Builder, fx.Node, fx.Node], fx.Node]


def _steps(b: _Builder, x: fx.Node) -> list[Step]:
    rank = len(b.shape(x))
    steps = list(_ANY_RANK)
    if rank >= 2:
        steps += _MATRIX
    if rank == 4:
        steps += _IMAGE * 3
    if b.discrete and b.random.random() < 0.25:
        steps = list(_DISCRETE)
    return steps


def _unary(op: Any, *args: Any) -> Step:
    return lambda b, x, _: b.call(op, x, *args)


def _guarded(op: Any, offset: float) -> Step:
    """The operator on ``|x| + offset``."""
    return lambda b, x, _: b.call(op, b.call(aten.add.Tensor, b.call(aten.abs.default, x), offset))


def _bounded(op: Any) -> Step:
    return lambda b, x, _: b.call(op, b.call(aten.clamp.default, x, -5.0, 5.0))


def _binary(op: Any) -> Step:
    def step(b: _Builder, x: fx.Node, y: fx.Node) -> fx.Node:
        return b.call(op, x, y if b.shape(x) == b.shape(y) else b.weight(b.shape(x)[-1]))

    return step


def _divide(b: _Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    y = y if b.shape(x) == b.shape(y) else x
    return b.call(aten.div.Tensor, x, b.call(aten.add.Tensor, b.call(aten.abs.default, y), 0.5))


def _linear(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    inner, outer = b.shape(x)[-1], b.random.choice([5, 8, 12])
    return b.call(aten.linear.default, x, b.weight(outer, inner, scale=inner**-0.5), b.weight(outer))


def _gram(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    return b.call(aten.matmul.default, x, b.call(aten.transpose.int, x, -1, -2))


def _attention(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    query = x
    while len(b.shape(query)) < 4:
        query = b.call(aten.unsqueeze.default, query, 0)
    key = b.call(aten.mul.Tensor, query, 0.7)
    causal = b.random.random() < 0.5
    return b.call(aten.scaled_dot_product_attention.default, query, key, query, None, 0.0, causal)


def _layer_norm(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    n = b.shape(x)[-1]
    return b.call(aten.layer_norm.default, x, [n], b.weight(n), b.weight(n), 1e-5)


def _rms_norm(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    n = b.shape(x)[-1]
    return b.call(aten.rms_norm.default, x, [n], b.weight(n), b.random.choice([None, 1e-6]))


def _conv(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    channels, outer = b.shape(x)[1], b.random.choice([4, 8])
    kernel = min(b.random.choice([1, 3]), *b.shape(x)[2:])
    weight = b.weight(outer, channels, kernel, kernel, scale=(channels * kernel**2) ** -0.5)
    return b.call(aten.conv2d.default, x, weight, b.weight(outer), [1, 1], [kernel // 2, kernel // 2])


def _batch_norm(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    n = b.shape(x)[1]
    parts = b.weight(n), b.weight(n), b.weight(n), b.weight(n, positive=True)
    return b.call(aten.batch_norm.default, x, *parts, False, 0.1, 1e-5, False)


def _group_norm(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    n = b.shape(x)[1]
    return b.call(aten.group_norm.default, x, 2 if n % 2 == 0 else 1, b.weight(n), b.weight(n))


def _pool(op: Any) -> Step:
    def step(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
        k = min(2, *b.shape(x)[2:])
        return b.call(op, x, [k, k], [k, k])

    return step


def _concatenate(b: _Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    return b.call(aten.cat.default, [x, y if b.shape(x) == b.shape(y) else x], -1)


def _where(b: _Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    y = y if b.shape(x) == b.shape(y) else b.call(aten.neg.default, x)
    return b.call(aten.where.self, b.call(aten.gt.Tensor, x, y), x, y)


def _take_best(b: _Builder, x: fx.Node, _: fx.Node) -> fx.Node:
    return b.call(aten.gather.default, x, -1, b.call(aten.argmax.default, x, -1, True))


_ANY_RANK: list[Step] = [
    *(
        _unary(getattr(aten, n).default)
        for n in "relu silu sigmoid tanh softplus mish elu selu hardswish erf sin cos neg log_sigmoid".split()
    ),
    _unary(aten.gelu.default),
    lambda b, x, _: b.call(aten.gelu.default, x, approximate="tanh"),
    _unary(aten.pow.Tensor_Scalar, 2),
    _unary(aten.mul.Tensor, 0.1),
    _unary(aten.add.Tensor, 3.3),
    _unary(aten.leaky_relu.default, 0.1),
    _guarded(aten.log.default, 1.0),
    _guarded(aten.log1p.default, 0.0),
    _guarded(aten.sqrt.default, 0.01),
    _guarded(aten.rsqrt.default, 0.1),
    _guarded(aten.reciprocal.default, 0.5),
    _bounded(aten.exp.default),
    _bounded(aten.expm1.default),
    *(_binary(getattr(aten, n).Tensor) for n in ("add", "sub", "mul")),
    _binary(aten.maximum.default),
    _divide,
    _concatenate,
    _unary(aten.softmax.int, -1),
    _unary(aten.log_softmax.int, -1),
    _unary(aten.cumsum.default, -1),
    _unary(aten.mean.dim, [-1], True),
    _unary(aten.sum.dim_IntList, [-1], True),
    lambda b, x, _: b.call(aten.var.correction, x, [-1], correction=0, keepdim=True),
    _unary(aten.logsumexp.default, [-1], True),
    _unary(aten.amax.default, [-1], True),
    _linear,
    _layer_norm,
    _rms_norm,
    _unary(aten.flip.default, [-1]),
]
_MATRIX: list[Step] = [_gram, _attention, _linear, _layer_norm, _unary(aten.transpose.int, -1, -2)]
_IMAGE: list[Step] = [
    _conv,
    _batch_norm,
    _group_norm,
    _pool(aten.avg_pool2d.default),
    _pool(aten.max_pool2d.default),
]
_DISCRETE: list[Step] = [
    _unary(aten.round.default),
    _unary(aten.floor.default),
    _unary(aten.sign.default),
    _where,
    _take_best,
]
