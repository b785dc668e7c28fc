"""Blocks of models: attention of language models with its cache, gated layers, residual blocks of CNNs.

Written in operators, with drawn sizes, so that they cost no capture.  They hold what passes are made for,
and what single operators hardly ever add up to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphopt.fuzz.generation.choices import weighted
from graphopt.fuzz.generation.embedding import adapted
from graphopt.fuzz.generation.sketch import Shape, Sketch
from graphopt.fuzz.graphs import Argument, Leaf, Ref

_DTYPES = (("float32", 6.0), ("float16", 1.0), ("bfloat16", 1.0), ("float64", 1.0))
_END = 2**63 - 1
_FED = 0.4


@dataclass(frozen=True)
class Block:
    """What a block gives.

    Attributes:
        result: that following operators read.
        cache: values that a model returns beside it.
    """

    result: Ref
    cache: tuple[Ref, ...] = ()


class _Refused(Exception):
    """Torch refuses a call, or its result is too large or not finite."""


class _Builder:
    """Calls by their ATen names.

    Attributes:
        sketch: the graph that they are added to.
        dtype: of the block.
    """

    def __init__(self, sketch: Sketch) -> None:
        self.sketch = sketch
        self.dtype = weighted(sketch.choices, _DTYPES)

    def __call__(self, operator: str, *arguments: Argument, **keywords: Argument) -> Ref:
        name = operator if "." in operator else f"{operator}.default"
        found = self.sketch.call(f"aten.{name}", *arguments, **keywords)
        if found is None:
            raise _Refused
        return found

    def input(self, *shape: int) -> Ref:
        """A value of the graph made to fit, or a new input."""
        sketch = self.sketch
        fed = adapted(sketch, shape, self.dtype, set()) if sketch.choices.chance(_FED) else None
        return fed or sketch.input(shape, self.dtype)

    def weight(self, *shape: int) -> Ref:
        return self.sketch.weight(shape, self.dtype)

    def linear(self, x: Ref, inward: int, outward: int) -> Ref:
        bias = (self.weight(outward),) if self.sketch.choices.chance(0.3) else ()
        return self("linear", x, self.weight(outward, inward), *bias)

    def conv(self, x: Ref, inward: int, outward: int, kernel: int, stride: int = 1, groups: int = 1) -> Ref:
        weight = self.weight(outward, inward // groups, kernel, kernel)
        pad = (kernel - 1) // 2
        return self("conv2d", x, weight, None, (stride, stride), (pad, pad), (1, 1), groups)

    def batch_norm(self, x: Ref, channels: int) -> Ref:
        mean = self.sketch.constant((channels,), self.dtype)
        variance = self.sketch.constant((channels,), self.dtype, "positive")
        affine = (self.weight(channels), self.weight(channels))
        return self("batch_norm", x, *affine, mean, variance, False, 0.1, 1e-5, False)

    def shape(self, x: Ref) -> Shape:
        return self.sketch.value(x).shape


def _rotated(b: _Builder, x: Ref, cos: Ref, sin: Ref, width: int) -> Ref:
    """Rotary embedding of (batch, heads, positions, width), in halves."""
    low = b("slice.Tensor", x, 3, 0, width // 2)
    high = b("slice.Tensor", x, 3, width // 2, _END)
    turned = b("cat", (b("neg", high), low), -1)
    return b("add.Tensor", b("mul.Tensor", x, cos), b("mul.Tensor", turned, sin))


def _heads(b: _Builder, x: Ref, batch: int, rows: int, heads: int, width: int) -> Ref:
    split = b("reshape", x, (batch, rows, heads, width))
    return b("transpose.int", split, 1, 2)


def _repeated(b: _Builder, x: Ref, times: int) -> Ref:
    """Each head of keys or values for several heads of queries, as Hugging Face's repeat_kv writes it."""
    batch, heads, rows, width = b.shape(x)
    if times == 1:
        return x
    wide = b("expand", b("unsqueeze", x, 2), (batch, heads, times, rows, width))
    return b("reshape", wide, (batch, heads * times, rows, width))


def _window(b: _Builder, rows: int, span: int) -> Ref:
    """A mask: True where a query sees a key, itself and the ``span - 1`` before."""
    given = tuple(0 <= i - j < span for i in range(rows) for j in range(rows))
    name = b.sketch.fresh_name("window")
    return b.sketch.leaf(Leaf(name, (rows, rows), "bool", "constant", given=given))


def _attention(b: _Builder, past: int, windowed: bool) -> Block:
    """Grouped-query attention with rotary embedding; ``past`` cached positions, or none in prefill."""
    s = b.sketch
    batch, rows = s.size(1, 3), 1 if past else s.size(2, 7)
    groups, times, width = s.size(1, 3), s.size(1, 3), 2 * s.size(1, 3)
    model = groups * times * width
    x = b.input(batch, rows, model)
    normed = b("rms_norm", x, (model,), b.weight(model), 1e-5)
    query = _heads(b, b.linear(normed, model, model), batch, rows, groups * times, width)
    key = _heads(b, b.linear(normed, model, groups * width), batch, rows, groups, width)
    value = _heads(b, b.linear(normed, model, groups * width), batch, rows, groups, width)
    cos, sin = s.input((rows, width), b.dtype), s.input((rows, width), b.dtype)
    query, key = _rotated(b, query, cos, sin, width), _rotated(b, key, cos, sin, width)
    if past:
        cached = [s.input((batch, groups, past, width), b.dtype) for _ in range(2)]
        key, value = b("cat", (cached[0], key), 2), b("cat", (cached[1], value), 2)
    native = times > 1 and s.choices.chance(0.3)
    wide = (key, value) if native else (_repeated(b, key, times), _repeated(b, value, times))
    masked: tuple[Argument, ...] = () if past else (None, 0.0, True)
    if windowed and not past:
        masked = (_window(b, rows, s.size(1, rows)),)
    extra: dict[str, Argument] = {"enable_gqa": True} if native else {}
    seen = b("scaled_dot_product_attention", query, *wide, *masked, **extra)
    joined = b("reshape", b("transpose.int", seen, 1, 2), (batch, rows, model))
    return Block(b("add.Tensor", x, b.linear(joined, model, model)), (key, value))


def _prefill(b: _Builder) -> Block:
    return _attention(b, past=0, windowed=False)


def _decode(b: _Builder) -> Block:
    return _attention(b, past=b.sketch.size(1, 9), windowed=False)


def _sliding_window(b: _Builder) -> Block:
    return _attention(b, past=0, windowed=True)


def _gated_layer(b: _Builder) -> Block:
    s = b.sketch
    width, hidden = s.size(2, 16), s.size(2, 24)
    x = b.input(s.size(1, 3), s.size(1, 7), width)
    normed = b("rms_norm", x, (width,), b.weight(width), 1e-5)
    gate = b(s.choices.one_of(("silu", "gelu")), b.linear(normed, width, hidden))
    inner = b("mul.Tensor", gate, b.linear(normed, width, hidden))
    return Block(b("add.Tensor", x, b.linear(inner, hidden, width)))


def _transformer_layer(b: _Builder) -> Block:
    """A layer of an encoder: fused projection, attention written out, normalised after."""
    s = b.sketch
    batch, rows, heads, width = s.size(1, 3), s.size(1, 7), s.size(1, 4), s.size(1, 5)
    model = heads * width
    x = b.input(batch, rows, model)
    fused = b("reshape", b.linear(x, model, 3 * model), (batch, rows, 3, heads, width))
    query, key, value = (b("transpose.int", b("select.int", fused, 2, i), 1, 2) for i in range(3))
    scores = b("matmul", query, b("transpose.int", key, -2, -1))
    weights = b("softmax.int", b("mul.Tensor", scores, width**-0.5), -1)
    joined = b("reshape", b("transpose.int", b("matmul", weights, value), 1, 2), (batch, rows, model))
    total = b("add.Tensor", x, b.linear(joined, model, model))
    return Block(b("layer_norm", total, (model,), b.weight(model), b.weight(model)))


def _residual(b: _Builder) -> Block:
    """Two convolutions and a shortcut, which is projected where the shape changes."""
    s = b.sketch
    channels, size, stride = s.size(1, 6), s.size(3, 9), s.size(1, 2)
    outward = channels if stride == 1 else s.size(1, 8)
    x = b.input(s.size(1, 2), channels, size, size)
    y = b("relu", b.batch_norm(b.conv(x, channels, outward, 3, stride), outward))
    y = b.batch_norm(b.conv(y, outward, outward, 3), outward)
    shortcut = x
    if stride > 1 or outward != channels:
        shortcut = b.batch_norm(b.conv(x, channels, outward, 1, stride), outward)
    return Block(b("relu", b("add.Tensor", y, shortcut)))


def _inverted_residual(b: _Builder) -> Block:
    """MobileNetV3's: expand, depthwise, squeeze and excite, project."""
    s = b.sketch
    channels, hidden, size = s.size(1, 5), s.size(2, 10), s.size(3, 9)
    x = b.input(s.size(1, 2), channels, size, size)
    y = b("hardswish", b.batch_norm(b.conv(x, channels, hidden, 1), hidden))
    kernel = s.choices.one_of((3, 5))
    y = b("hardswish", b.batch_norm(b.conv(y, hidden, hidden, kernel, groups=hidden), hidden))
    few = max(1, hidden // 4)
    gate = b("adaptive_avg_pool2d", y, (1, 1))
    gate = b.conv(b("relu", b.conv(gate, hidden, few, 1)), few, hidden, 1)
    y = b("mul.Tensor", y, b("hardsigmoid", gate))
    return Block(b("add.Tensor", x, b.batch_norm(b.conv(y, hidden, channels, 1), channels)))


def _patches(b: _Builder) -> Block:
    """An image as a sequence of patches, normalised."""
    s = b.sketch
    channels, patch, model = s.size(1, 3), s.size(1, 3), s.size(2, 12)
    batch, side = s.size(1, 2), s.size(1, 4)
    x = b.input(batch, channels, patch * side, patch * side)
    y = b("conv2d", x, b.weight(model, channels, patch, patch), b.weight(model), (patch, patch))
    y = b("transpose.int", b("flatten.using_ints", y, 2), 1, 2)
    return Block(b("layer_norm", y, (model,), b.weight(model), b.weight(model)))


BLOCKS: dict[str, Callable[[_Builder], Block]] = {
    "prefill": _prefill,
    "decode": _decode,
    "sliding window": _sliding_window,
    "gated layer": _gated_layer,
    "transformer layer": _transformer_layer,
    "residual": _residual,
    "inverted residual": _inverted_residual,
    "patches": _patches,
}
"""Blocks by name."""


def add_block(sketch: Sketch, name: str) -> Block | None:
    """Adds a block of drawn sizes to a graph; None, and nothing added, where a value in it is not finite."""
    found: list[Block] = []

    def grow() -> Ref | None:
        try:
            found.append(BLOCKS[name](_Builder(sketch)))
        except _Refused:
            return None
        return found[0].result

    return found[0] if sketch.attempt(grow) else None
