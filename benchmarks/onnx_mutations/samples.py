"""The files that are mutated: small generated models, and PP-OCRv4's three where they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_HEADER = '<ir_version: 8, opset_import: ["": 17, "local": 1]>\n'
_OCR = ("ch_ppocr_mobile_v2.0_cls_infer.onnx", "ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx")


def _parsed(text: str, weights: dict[str, tuple[int, ...]] | None = None) -> onnx.ModelProto:
    """A model of ONNX's text form, with random float weights added."""
    model = onnx.parser.parse_model(_HEADER + text)
    generator = np.random.default_rng(1)
    for name, shape in (weights or {}).items():
        values = (generator.standard_normal(shape) / max(shape[0], 1) ** 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{index}"
    return model


def residual_cnn() -> onnx.ModelProto:
    """Convolutions, a residual connection, pooling and a classifier."""
    model = _parsed(
        """
        cnn (float[batch, 3, 8, 8] image) => (float[batch, 5] scores) {
            stem = Conv <pads = [1, 1, 1, 1]> (image, w0, b0)
            a = Relu(stem)
            b = Conv <pads = [1, 1, 1, 1], group = 1> (a, w1)
            n = BatchNormalization <epsilon = 0.001> (b, gamma, beta, mean, variance)
            c = Add(a, n)
            d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
            e = GlobalAveragePool(d)
            f = Flatten(e)
            scores = Gemm <transB = 1> (f, w2, b2)
        }""",
        {"w0": (4, 3, 3, 3), "b0": (4,), "w1": (4, 4, 3, 3), "w2": (5, 4), "b2": (5,)}
        | {"gamma": (4,), "beta": (4,), "mean": (4,)},
    )
    model.graph.initializer.append(numpy_helper.from_array(np.full(4, 0.7, np.float32), "variance"))
    return model


def transformer() -> onnx.ModelProto:
    """One block of attention with shape arithmetic on dynamic sizes, and a feed-forward part."""
    return _parsed(
        """
        block (float[batch, steps, 8] x) => (float[batch, steps, 8] y)
        <int64[1] heads = {2}, int64[1] width = {4}, int64[1] all = {8}, int64 zero = {0}, int64 one = {1},
         int64[1] axis = {0}, float root = {2.0}> {
            shape = Shape(x)
            b = Gather(shape, zero)
            s = Gather(shape, one)
            b1 = Unsqueeze(b, axis)
            s1 = Unsqueeze(s, axis)
            split = Concat <axis = 0> (b1, s1, heads, width)
            q0 = MatMul(x, wq)
            q1 = Reshape(q0, split)
            q = Transpose <perm = [0, 2, 1, 3]> (q1)
            k0 = MatMul(x, wk)
            k1 = Reshape(k0, split)
            k = Transpose <perm = [0, 2, 3, 1]> (k1)
            scores = MatMul(q, k)
            scaled = Div(scores, root)
            p = Softmax <axis = -1> (scaled)
            mixed = MatMul(p, q)
            back = Transpose <perm = [0, 2, 1, 3]> (mixed)
            joined = Concat <axis = 0> (b1, s1, all)
            flat = Reshape(back, joined)
            added = Add(flat, x)
            normed = LayerNormalization <axis = -1> (added, scale, shift)
            up = MatMul(normed, w1)
            act = Tanh(up)
            down = MatMul(act, w2)
            y = Add(down, normed)
        }""",
        {"wq": (8, 8), "wk": (8, 8), "w1": (8, 16), "w2": (16, 8), "scale": (8,), "shift": (8,)},
    )


def control_flow() -> onnx.ModelProto:
    """An ``If`` on a constant and a ``Loop`` of three steps, both reading values from outside."""
    return _parsed(
        """
        flow (float[batch, 4] x) => (float[batch, 4] y, float[3, batch, 4] steps)
        <bool yes = {1}, int64 three = {3}> {
            chosen = If (yes) <
                then_branch = then () => (float[batch, 4] t) { t = Mul(x, w) },
                else_branch = other () => (float[batch, 4] e) { e = Neg(x) }
            >
            y, steps = Loop (three, yes, chosen) <
                body = body (int64 i, bool go, float[batch, 4] state)
                    => (bool on, float[batch, 4] next, float[batch, 4] seen) {
                    on = Identity(go)
                    next = Add(state, w)
                    seen = Relu(next)
                }
            >
        }""",
        {"w": (4,)},
    )


def functions() -> onnx.ModelProto:
    """Two functions of the model's own; one calls the other and hands an attribute on."""
    return _parsed(
        """
        g (float[batch, 4] x) => (float[batch, 4] y) {
            a = local.scaled <alpha = 1.5> (x, w)
            y = local.twice <gain = 0.5> (a)
        }
        <domain: "local", opset_import: ["": 17]>
        scaled <alpha> (v, weight) => (r) {
            factor = Constant <value_float: float = @alpha> ()
            m = Mul(v, weight)
            r = Mul(m, factor)
        }
        <domain: "local", opset_import: ["": 17, "local": 1]>
        twice <gain> (v) => (r) {
            once = local.scaled <alpha: float = @gain> (v, v)
            r = Add(once, once)
        }""",
        {"w": (4,)},
    )


def quantized() -> onnx.ModelProto:
    """A linear layer between QuantizeLinear and DequantizeLinear, and an integer product."""
    model = _parsed(
        """
        q (float[batch, 4] x) => (float[batch, 3] y, int32[batch, 3] raw)
        <float scale = {0.05}, uint8 zero = {128}, float wscale = {0.01}, int8 wzero = {0}> {
            xq = QuantizeLinear(x, scale, zero)
            xd = DequantizeLinear(xq, scale, zero)
            wd = DequantizeLinear(wq, wscale, wzero)
            y = MatMul(xd, wd)
            raw = MatMulInteger(xq, wq, zero, wzero)
        }"""
    )
    weights = np.random.default_rng(2).integers(-128, 128, (4, 3)).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(weights, "wq"))
    return model


def resizing() -> onnx.ModelProto:
    """Shape-taking operators: Slice, Pad, Expand, Tile, ConstantOfShape, Range, Resize."""
    return _parsed(
        """
        r (float[batch, 2, 4, 4] x) => (float[batch, 2, 8, 8] y, float[a, b] z)
        <int64[1] lo = {1}, int64[1] hi = {3}, int64[1] ax = {2}, int64[8] pads = {0, 0, 1, 0, 0, 0, 0, 0},
         int64[2] box = {3, 4}, int64[2] times = {2, 1}, int64 zero = {0}, int64 four = {4}, int64 one = {1},
         float[4] factors = {1, 1, 2, 2}> {
            cut = Slice(x, lo, hi, ax)
            padded = Pad(cut, pads)
            taken = Slice(padded, lo, hi, ax)
            joined = Concat <axis = 2> (cut, taken)
            y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
                        nearest_mode = "floor"> (joined, , factors)
            filled = ConstantOfShape <value = float[1] {2.5}> (box)
            line = Range(zero, four, one)
            row = Cast <to = 1> (line)
            wide = Expand(row, box)
            sum = Add(filled, wide)
            z = Tile(sum, times)
        }"""
    )


def sparse() -> onnx.ModelProto:
    """A weight that is a sparse initialiser."""
    model = _parsed("s (float[batch, 4] x) => (float[batch, 3] y) { y = MatMul(x, w) }")
    values = numpy_helper.from_array(np.array([1.5, -2.0, 0.5], np.float32), "w")
    indices = numpy_helper.from_array(np.array([0, 4, 11], np.int64), "w_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 3]))
    return model


def external() -> onnx.ModelProto:
    """Two weights whose data is in ``weights.bin`` beside the model; :func:`external_bytes` gives it."""
    model = _parsed("e (float[batch, 4] x) => (float[batch, 4] y) { h = MatMul(x, w) y = Add(h, b) }")
    for name, dims, offset in (("w", (4, 4), 0), ("b", (4,), 64)):
        weight = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", "weights.bin"),
            ("offset", offset),
            ("length", 4 * int(np.prod(dims))),
        ):
            weight.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(weight)
    return model


def external_bytes() -> bytes:
    return np.random.default_rng(3).standard_normal(20).astype(np.float32).tobytes()


SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (residual_cnn, transformer, control_flow, functions, quantized, resizing, sparse, external)
}


def real() -> dict[str, Path]:
    """PP-OCRv4's files by a short name; empty where rapidocr_onnxruntime is not installed."""
    package = importlib.util.find_spec("rapidocr_onnxruntime")
    if package is None or package.origin is None:
        return {}
    folder = Path(package.origin).parent / "models"
    return {f"ocr_{name.split('_')[-2]}": folder / name for name in _OCR}
