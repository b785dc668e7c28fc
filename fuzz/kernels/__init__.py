"""Random kernels for the code generator: each family of schedule rules over sizes that do not fit it.

A schedule is right on the sizes that its author had in mind.  Here sizes are 1, primes, one more and one
less than a vector, known or symbolic; and whatever is compiled has to compute what the program computes,
by the rule of :mod:`graphopt.verification`, whose reference is float64.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from graphopt.fuzz.kernels.quantized import DyadicRequantize, FloatRequantize, IntegerConv2d, IntegerLinear

SIZES = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 23, 31, 32, 33, 47, 48, 64, 97)
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)
BYTES = (torch.int8, torch.uint8)


@dataclass(frozen=True)
class KernelCase:
    """A module to compile.

    Attributes:
        module: in eval mode.
        inputs: examples.
        dynamic_shapes: symbolic axes of each input by name, or None.
    """

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    dynamic_shapes: tuple[dict[int, str], ...] | None = None


@dataclass(frozen=True)
class KernelFamily:
    """Kernels that one schedule rule is for.

    Attributes:
        name: of the family.
        rule: the schedule rule that some of its kernels take on CPUs.
        dtypes: that it is drawn in.
        draw: a case from a source of randomness and a dtype.
    """

    name: str
    rule: str
    dtypes: tuple[torch.dtype, ...]
    draw: Callable[[random.Random, torch.dtype], KernelCase]

    def case(self, seed: int) -> KernelCase:
        """The case of a seed: always the same one."""
        rng = random.Random(f"{self.name}-{seed}")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.draw(rng, rng.choice(self.dtypes))


class Function(nn.Module):
    """A function of tensors as a module; a module in ``part`` is registered, so that it keeps weights."""

    def __init__(self, function: Callable[..., Any], part: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.part = function, part

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs) if self.part is None else self.function(self.part, *inputs)


def _case(
    function: Callable[..., Any],
    inputs: Sequence[torch.Tensor],
    dynamic: Sequence[dict[int, str]] | None = None,
    part: nn.Module | None = None,
) -> KernelCase:
    module = Function(function, part).eval()
    if part is not None and inputs[0].dtype.is_floating_point:
        module = module.to(inputs[0].dtype)
    return KernelCase(module, tuple(inputs), tuple(dynamic) if dynamic else None)


def _values(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, dtype=torch.float32).to(dtype)
    return torch.randint(0 if dtype == torch.uint8 else -5, 6, shape, dtype=dtype)


def _epilogue(rng: random.Random) -> Callable[[torch.Tensor], torch.Tensor]:
    """What follows a product, and joins its kernel."""
    choices: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda y: y, F.relu, F.gelu, F.silu, F.hardswish, torch.sigmoid, lambda y: y + y.abs(),
        lambda y: y.clamp(-1, 1) * 2,
    )  # fmt: skip
    return rng.choice(choices)


def _axes(rng: random.Random, **axes: int) -> list[dict[int, str]] | None:
    """Some of the axes of the one input as symbolic ones."""
    chosen = {axis: name for name, axis in axes.items() if rng.random() < 0.7} if rng.random() < 0.4 else {}
    return [chosen] if chosen else None


# -- products --------------------------------------------------------------------------------------


def _linear(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, depth, columns = (rng.choice(SIZES) for _ in range(3))
    layer, after = nn.Linear(depth, columns, bias=rng.random() < 0.5), _epilogue(rng)
    lead = rng.choice([(), (2,), (3, 2)])
    x = _values(dtype, *lead, rows, depth)
    axes = _axes(rng, rows=len(lead))
    return _case(lambda part, x: after(part(x)), [x], axes, layer)


def _matmul(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, depth, columns = (rng.choice(SIZES) for _ in range(3))
    lead = rng.choice([(), (3,), (2, 3)])
    a, b = _values(dtype, *lead, rows, depth), _values(dtype, *lead, depth, columns)
    after = _epilogue(rng) if dtype.is_floating_point else lambda y: y
    if rng.random() < 0.3:
        b = b.mT.contiguous()
        return _case(lambda x, y: after(x @ y.mT), [a, b])
    return _case(lambda x, y: after(x @ y), [a, b])


def _attention(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    queries, keys = rng.choice(SIZES), rng.choice(SIZES)
    depth, width = rng.choice((4, 8, 16, 24, 40)), rng.choice((4, 8, 16, 24, 40))
    groups = rng.choice((1, 1, 3))
    q = _values(dtype, 2, 2 * groups, queries, depth)
    k, v = _values(dtype, 2, 2, keys, depth), _values(dtype, 2, 2, keys, width)
    causal = rng.random() < 0.3
    inputs = [q, k, v]
    if not causal and rng.random() < 0.5:
        mask = torch.rand(rng.choice([(queries, keys), (2, 1, 1, keys), (1, 2 * groups, queries, keys)]))
        inputs.append(mask > 0.3 if rng.random() < 0.5 else mask.to(dtype))
    dynamic = None
    if len(inputs) == 3 and rng.random() < 0.4 and queries > 1 and keys > 1:
        dynamic = [{2: "queries"}, {2: "keys"}, {2: "keys"}]

    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=groups > 1)

    return _case(attention, inputs, dynamic)


def _decoding(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    """A few queries over many keys, which are split."""
    queries, groups = rng.choice((1, 1, 1, 2, 3)), rng.choice((1, 1, 2, 4))
    keys = rng.choice((*SIZES, 127, 130, 300, 513))
    depth, width = rng.choice((4, 16, 24, 64)), rng.choice((4, 8, 40, 64))
    batch, heads = rng.choice((1, 2)), rng.choice((1, 3))
    q = _values(dtype, batch, heads * groups, queries, depth)
    k, v = _values(dtype, batch, heads, keys, depth), _values(dtype, batch, heads, keys, width)
    inputs, causal = [q, k, v], rng.random() < 0.2
    if not causal and rng.random() < 0.4:
        mask = torch.rand(rng.choice([(queries, keys), (batch, 1, 1, keys)]))
        inputs.append(mask > 0.7 if rng.random() < 0.5 else mask.to(dtype))
    dynamic = None
    if len(inputs) == 3 and rng.random() < 0.4 and keys > 1:
        dynamic = [{}, {2: "keys"}, {2: "keys"}]

    def attention(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=groups > 1)

    return _case(attention, inputs, dynamic)


# -- convolutions ----------------------------------------------------------------------------------


def _conv(rng: random.Random, dtype: torch.dtype, kind: str) -> KernelCase:
    kernel = (rng.choice((1, 2, 3, 5)), rng.choice((1, 3, 4)))
    stride, dilation = (rng.choice((1, 1, 2, 3)), rng.choice((1, 2))), rng.choice((1, 1, 2))
    padding = rng.randint(0, dilation * (kernel[0] - 1)), rng.randint(0, dilation * (kernel[1] - 1))
    reach = [dilation * (k - 1) + 1 for k in kernel]
    height, width = (r + rng.choice((0, 1, 4, 9, 14, 20)) for r in reach)
    if kind == "depthwise":
        channels = outputs = groups = rng.choice((4, 7, 8, 12, 16, 24, 32, 40, 52))
    elif kind == "grouped":
        groups = rng.choice((2, 3))
        channels, outputs = groups * rng.choice((1, 4, 5)), groups * rng.choice((2, 8, 16))
    else:
        groups, channels, outputs = 1, rng.choice((1, 3, 5, 8, 16, 33)), rng.choice((1, 4, 8, 18, 24, 40, 64))
    layer = nn.Conv2d(
        channels, outputs, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.5
    )  # fmt: skip
    after = _epilogue(rng)
    before = F.relu if rng.random() < 0.3 else lambda x: x
    x = _values(dtype, rng.choice((1, 2)), channels, height, width)
    axes = _axes(rng, height=2, width=3) if min(height - reach[0], width - reach[1]) >= 4 else None
    return _case(lambda part, x: after(part(before(x))), [x], axes, layer)


def _winograd(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    channels, outputs = rng.choice((4, 7, 8, 16, 24, 32, 48, 64)), rng.choice((4, 8, 20, 24, 33, 48, 64))
    padding = rng.randint(0, 2), rng.randint(0, 2)
    layer = nn.Conv2d(channels, outputs, 3, padding=padding, bias=rng.random() < 0.5)
    height, width = (rng.choice((3, 7, 8, 12, 13, 17, 20, 28, 31)) for _ in range(2))
    x = _values(dtype, rng.choice((1, 1, 2)), channels, height, width)
    if rng.random() < 0.4:
        # Rows of another size: rounding errors of their tiles reach the pixels beside them.
        x[..., rng.randrange(height), :] *= 2.0 ** rng.choice((-7, 7))
    after = _epilogue(rng)
    residual = rng.random() < 0.3
    same = padding == (1, 1) and channels == outputs
    axes = [{0: "batch"}] if x.shape[0] > 1 and rng.random() < 0.5 else None

    def convolved(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return after(part(x) + x) if residual and same else after(part(x))

    return _case(convolved, [x], axes, layer)


def _conv1d(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    kernel, stride, dilation = rng.choice((1, 2, 3, 7)), rng.choice((1, 2)), rng.choice((1, 1, 3))
    groups = rng.choice((1, 1, 2, 8))
    channels, outputs = groups * rng.choice((1, 2, 5)), groups * rng.choice((1, 4, 12))
    padding = rng.randint(0, dilation * (kernel - 1))
    layer = nn.Conv1d(channels, outputs, kernel, stride, padding, dilation, groups, bias=rng.random() < 0.5)
    after = _epilogue(rng)
    x = _values(dtype, rng.choice((1, 2)), channels, dilation * (kernel - 1) + rng.choice((4, 9, 33)))
    return _case(lambda part, x: after(part(x)), [x], _axes(rng, length=2), layer)


def _strassen(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    depth, columns = rng.choice((256, 384, 416, 512, 640)), rng.choice((96, 192, 250, 384, 500, 576))
    rows = rng.choice((49, 96, 128, 130, 192, 197))
    after, residual = _epilogue(rng), rng.random() < 0.3
    bias = rng.random() < 0.5

    def applied(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = part(x)
        return after(y + x) if residual and y.shape == x.shape else after(y)

    if rng.random() < 0.3:
        x = _values(dtype, rng.choice((1, 2)), depth, rng.choice((7, 8, 14)), rng.choice((13, 14, 28)))
        axes = [{0: "batch"}] if x.shape[0] > 1 and rng.random() < 0.5 else None
        return _case(applied, [x], axes, nn.Conv2d(depth, columns, 1, bias=bias))
    x = _values(dtype, *rng.choice([(), (1,), (2,), (2, 3), (5, 1)]), rows, depth)
    if rng.random() < 0.4:
        # Rows of another size: rounding errors reach the rows half a block beside them.
        x[..., rng.randrange(rows), :] *= 2.0 ** rng.choice((-7, 7))
    axes = [{0: "batch"}] if x.ndim > 2 and x.shape[0] > 1 and rng.random() < 0.3 else None
    return _case(applied, [x], axes, nn.Linear(depth, columns, bias=bias))


def _conv_transpose(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    kernel = rng.choice((1, 2, 3, 4))
    stride = kernel if rng.random() < 0.4 else rng.choice((1, 2, 3))
    channels, outputs = rng.choice((1, 5, 16)), rng.choice((1, 3, 8, 22, 24))
    layer = nn.ConvTranspose2d(
        channels, outputs, kernel, stride, rng.randint(0, kernel // 2), rng.randint(0, stride - 1),
        bias=rng.random() < 0.5,
    )  # fmt: skip
    after = _epilogue(rng)
    batch, height, width = rng.choice((1, 2)), rng.choice((1, 3, 9)), rng.choice((2, 5, 17))
    if height == 1 and kernel + layer.output_padding[0] == 2 * layer.padding[0]:
        height = 2  # of one row the padding would leave nothing
    x = _values(dtype, batch, channels, height, width)
    return _case(lambda part, x: after(part(x)), [x], None, layer)


# -- sequences -------------------------------------------------------------------------------------


def _recurrent(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    kind = rng.choice((nn.LSTM, nn.GRU, nn.RNN))
    options: dict[str, Any] = {"nonlinearity": rng.choice(("tanh", "relu"))} if kind is nn.RNN else {}
    hidden, batch, steps = (
        rng.choice((1, 5, 16, 19, 33, 40)),
        rng.choice((1, 2, 5, 8, 13)),
        rng.choice((1, 2, 7)),
    )
    layer = kind(
        rng.choice((4, 9)), hidden, rng.choice((1, 1, 2)), bias=rng.random() < 0.7,
        batch_first=rng.random() < 0.5, bidirectional=rng.random() < 0.5, **options,
    )  # fmt: skip
    x = _values(dtype, *((batch, steps) if layer.batch_first else (steps, batch)), layer.input_size)
    axes = None
    if dtype == torch.float32 and batch > 1 and steps > 1:
        axes = _axes(rng, one=0, other=1)
    if rng.random() < 0.5:
        return _case(lambda part, x: part(x), [x], axes, layer)
    sides = layer.num_layers * (2 if layer.bidirectional else 1)
    states = [_values(dtype, sides, batch, hidden) for _ in range(2 if kind is nn.LSTM else 1)]
    if kind is nn.LSTM:
        return _case(lambda part, x, h, c: part(x, (h, c)), [x, *states], None, layer)
    return _case(lambda part, x, h: part(x, h), [x, *states], None, layer)


# -- integers of 8 bits ----------------------------------------------------------------------------


def _bytes(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    limits = torch.iinfo(dtype)
    return torch.randint(limits.min, limits.max + 1, shape, dtype=dtype)


def _offsets(rng: random.Random, dtype: torch.dtype, outputs: int) -> tuple[int, torch.Tensor | None]:
    """A zero point, seldom one that ``dtype`` does not have, and a bias or none."""
    limits = torch.iinfo(dtype)
    zero = rng.choice((0, rng.randint(limits.min, limits.max), limits.max, limits.min, -200))
    bias = torch.randint(-(1 << 20), 1 << 20, (outputs,), dtype=torch.int32)
    return zero, bias if rng.random() < 0.6 else None


def _integer_weight(rng: random.Random, *shape: int) -> torch.Tensor:
    """Mostly int8; sometimes the differences of uint8 and a zero point, which have nine bits."""
    if rng.random() < 0.2:
        return torch.randint(-255, 256, shape, dtype=torch.int32)
    return _bytes(torch.int8, *shape)


def _requantize(rng: random.Random, outputs: int, depth: int, shape: Sequence[int]) -> nn.Module:
    """What follows a sum of ``depth`` products: nothing, a dyadic factor, or one in float32."""
    factor = (torch.rand(outputs) + 0.5) / (40 * depth**0.5)
    dtype = rng.choice((torch.int8, torch.uint8))
    choices: tuple[Callable[[], nn.Module], ...] = (
        nn.Identity,
        lambda: DyadicRequantize(factor, shape, dtype, low=rng.choice((None, 0))),
        lambda: FloatRequantize(factor, shape, dtype, zero=rng.randint(0, 127)),
    )
    return rng.choice(choices)()


def _integer_linear(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, depth, columns = (rng.choice(SIZES) for _ in range(3))
    zero, bias = _offsets(rng, dtype, columns)
    layer = IntegerLinear(_integer_weight(rng, columns, depth), bias, zero)
    lead = rng.choice([(), (2,), (3, 2)])
    part = nn.Sequential(layer, _requantize(rng, columns, depth, (-1,)))
    axes = _axes(rng, rows=len(lead))
    return _case(lambda part, x: part(x), [_bytes(dtype, *lead, rows, depth)], axes, part)


def _integer_conv(rng: random.Random, dtype: torch.dtype, depthwise: bool) -> KernelCase:
    kernel = (rng.choice((1, 2, 3, 5)), rng.choice((1, 3, 4)))
    stride = (rng.choice((1, 1, 2, 3)), rng.choice((1, 2)))  # torch dilates no integer convolution
    padding = rng.randint(0, kernel[0] - 1), rng.randint(0, kernel[1] - 1)
    height, width = (k + rng.choice((0, 1, 4, 9, 14, 20)) for k in kernel)
    if depthwise:
        channels = outputs = groups = rng.choice((4, 7, 8, 12, 16, 24, 32, 40, 52))
    else:
        groups, channels, outputs = 1, rng.choice((1, 3, 5, 8, 16, 33)), rng.choice((1, 4, 8, 18, 24, 40, 64))
    zero, bias = _offsets(rng, dtype, outputs)
    weight = _integer_weight(rng, outputs, channels // groups, *kernel)
    layer = IntegerConv2d(weight, bias, zero, stride, padding, groups=groups)
    after = _requantize(rng, outputs, weight[0].numel(), (-1, 1, 1))
    # A second one, on what the first gives: sums, or bytes with their channels last.
    residual = rng.random() < 0.3
    x = _bytes(dtype, rng.choice((1, 2)), channels, height, width)
    axes = _axes(rng, height=2, width=3) if min(height, width) > 6 else None

    def apply(part: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = part(x)
        return (
            (y.to(torch.int32) + y.to(torch.int32).clamp(min=3)).clamp(-128, 127).to(torch.int8)
            if residual
            else y
        )

    return _case(apply, [x], axes, nn.Sequential(layer, after))


# -- planes, rows and elements ---------------------------------------------------------------------


def _pooling(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    x = _values(dtype, 2, rng.choice((1, 5, 16, 24)), rng.choice((7, 12, 17)), rng.choice((6, 13)))
    window, stride = rng.choice((2, 3)), rng.choice((1, 2, 3))
    convolved = rng.random() < 0.5  # after a convolution images have their channels last
    part = nn.Conv2d(x.shape[1], rng.choice((8, 24)), 1) if convolved else nn.Identity()
    pools: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda y: F.max_pool2d(y, window, stride, window // 2),
        lambda y: F.avg_pool2d(y, window, stride),
        lambda y: F.avg_pool2d(y, window, stride, window // 2, ceil, border),
        lambda y: F.group_norm(y, groups),
        lambda y: F.adaptive_avg_pool2d(y, rng_size),
    )
    rng_size, ceil, border = rng.choice((1, 2, 5)), rng.random() < 0.5, rng.random() < 0.5
    groups = rng.choice((1, 1, 8)) if convolved else 1
    pool = rng.choice(pools)
    return _case(lambda part, x: pool(part(x)), [x], None, part)


def _resize(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    x = _values(dtype, 1, rng.choice((1, 5, 16)), rng.choice((3, 8)), rng.choice((4, 7)))
    mode, factor = rng.choice(("nearest", "bilinear")), rng.choice((2, 3))
    part = nn.Conv2d(x.shape[1], 8, 1) if rng.random() < 0.5 else nn.Identity()
    return _case(lambda part, x: F.interpolate(part(x), scale_factor=factor, mode=mode), [x], None, part)


def _rows(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    length = rng.choice((*SIZES, 129, 197))
    x = _values(dtype, rng.choice((1, 3, 9)), rng.choice((1, 4)), length)
    rng_largest = rng.random() < 0.5
    functions: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda x: x.softmax(-1),
        lambda x: x.log_softmax(-1),
        lambda x: F.layer_norm(x, (length,)),
        lambda x: F.rms_norm(x, (length,), eps=1e-5),
        lambda x: x.sum(-1),
        lambda x: x.amax(-1, keepdim=True) + x.mean(1, keepdim=True),
        lambda x: x.softmax(1),
        lambda x: (x * x).sum((0, 2)),
        lambda x: x.topk(min(length, 5), -1, rng_largest)[0],
    )
    symbolic: list[dict[int, str]] | None = [{0: "rows"}] if x.shape[0] > 1 and rng.random() < 0.4 else None
    return _case(rng.choice(functions), [x], symbolic)


def _integers(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    x = _values(dtype, rng.choice(SIZES), rng.choice(SIZES))
    functions: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        lambda x: x.sum(-1),
        lambda x: x.amax(0),
        lambda x: x.argmax(-1),
        lambda x: x.amin(-1, keepdim=True) + x,
    )
    return _case(rng.choice(functions), [x])


def _elements(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    a, b, c = (rng.choice(SIZES) for _ in range(3))
    x, y = _values(dtype, a, b, c), _values(dtype, *rng.choice([(c,), (b, 1), (a, 1, c), (a, b, c)]))
    functions: tuple[Callable[..., torch.Tensor], ...] = (
        lambda x, y: (x + y).permute(2, 0, 1) * 2,
        lambda x, y: torch.cat([x, x + y], 1)[:, ::2],
        lambda x, y: torch.where(x > y, x, y * 3).flip(0).reshape(-1),
        lambda x, y: F.pad(x - y, (1, 2, 0, 3)).mT,
        lambda x, y: (x * y).reshape(b, -1).transpose(0, 1).contiguous(),
    )
    return _case(rng.choice(functions), [x, y])


def _gather(rng: random.Random, dtype: torch.dtype) -> KernelCase:
    rows, width, picked = (rng.choice(SIZES) for _ in range(3))
    x, places = _values(dtype, rows, width), torch.randint(0, rows, (picked,))
    functions: tuple[Callable[..., torch.Tensor], ...] = (
        lambda x, i: x[i],
        lambda x, i: x.index_select(0, i) * 2,
        lambda x, i: x.gather(0, i[:, None].expand(-1, x.shape[1])),
        lambda x, i: torch.zeros_like(x).index_add(0, i, x[i]),
    )
    return _case(rng.choice(functions), [x, places])


FAMILIES: tuple[KernelFamily, ...] = (
    KernelFamily("linear", "packed-product", FLOATS, _linear),
    KernelFamily("matmul", "contraction", (*FLOATS, torch.int32), _matmul),
    KernelFamily("attention", "injective", FLOATS, _attention),
    KernelFamily("decoding", "split-attention", (torch.float32, torch.float32, torch.bfloat16), _decoding),
    KernelFamily("conv", "packed-product", FLOATS, lambda r, d: _conv(r, d, "dense")),
    KernelFamily("winograd-conv", "winograd", (torch.float32,), _winograd),
    KernelFamily("strassen-product", "strassen", (torch.float32,), _strassen),
    KernelFamily("depthwise-conv", "packed-product", FLOATS, lambda r, d: _conv(r, d, "depthwise")),
    KernelFamily("grouped-conv", "packed-product", FLOATS, lambda r, d: _conv(r, d, "grouped")),
    KernelFamily("conv1d", "packed-product", FLOATS, _conv1d),
    KernelFamily("transposed-conv", "packed-product", FLOATS, _conv_transpose),
    KernelFamily("recurrent", "recurrence", (torch.float32,) * 5 + (torch.float64,), _recurrent),
    KernelFamily("integer-linear", "packed-product", BYTES, _integer_linear),
    KernelFamily("integer-conv", "packed-product", BYTES, lambda r, d: _integer_conv(r, d, False)),
    KernelFamily("integer-depthwise-conv", "packed-product", BYTES, lambda r, d: _integer_conv(r, d, True)),
    KernelFamily("pooling", "contraction", FLOATS, _pooling),
    KernelFamily("resize", "injective", FLOATS, _resize),
    KernelFamily("rows", "row-reduction", FLOATS, _rows),
    KernelFamily("integer-rows", "row-reduction", INTEGERS, _integers),
    KernelFamily("elements", "injective", (*FLOATS, *INTEGERS), _elements),
    KernelFamily("gather", "injective", (*FLOATS, torch.int64), _gather),
)
