"""Integer arithmetic of files that onnxruntime quantised: every number is onnxruntime's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # single_nodes stands beside this file

from single_nodes import agrees, equals, has_integer_products_only, single_node  # noqa: E402

from graphopt.errors import InputError  # noqa: E402
from graphopt.frontends.onnx import import_onnx  # noqa: E402

F32 = np.float32
TYPES = pytest.mark.parametrize("dtype", [np.uint8, np.int8])


def scale(value: float) -> np.ndarray:
    return np.array(value, F32)


def integers(dtype: Any, *shape: int, seed: int = 0) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng([seed, *shape]).integers(info.min, info.max + 1, shape).astype(dtype)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(F32)


def zero(dtype: Any, offset: int = 3) -> np.ndarray:
    """An odd number, so that rounding before and after adding it differ."""
    return np.array(128 + offset if dtype == np.uint8 else offset, dtype)


# -- products --------------------------------------------------------------------------------------


@TYPES
@pytest.mark.parametrize("columns", [False, True])
def test_qlinear_matmul(dtype: Any, columns: bool) -> None:
    b_scale = np.linspace(0.01, 0.04, 6, dtype=F32) if columns else scale(0.02)
    b_zero = np.zeros(6, np.int8) if columns else np.array(0, np.int8)
    inputs = {
        "a": integers(dtype, 7, 32), "as": scale(0.031), "az": zero(dtype), "b": integers(np.int8, 32, 6),
        "bs": b_scale, "bz": b_zero, "ys": scale(0.21), "yz": zero(dtype),
    }  # fmt: skip
    constants = ["b", "bs", "bz"]
    model = single_node("QLinearMatMul", inputs, [dtype], constants=constants, domain="", opset=21)
    assert has_integer_products_only(equals(model, inputs))


@TYPES
@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_qlinear_conv(dtype: Any, channels: bool, groups: int) -> None:
    w_scale = np.linspace(0.01, 0.04, 8, dtype=F32) if channels else scale(0.02)
    inputs = {
        "x": integers(dtype, 2, 4, 9, 8), "xs": scale(0.031), "xz": zero(dtype),
        "w": integers(np.int8, 8, 4 // groups, 3, 3), "ws": w_scale, "wz": np.zeros_like(w_scale, np.int8),
        "ys": scale(0.4), "yz": zero(dtype), "b": np.arange(-400, 400, 100, dtype=np.int32),
    }  # fmt: skip
    constants = ["w", "ws", "wz", "b", "ys", "yz", "xs", "xz"]
    model = single_node(
        "QLinearConv", inputs, [dtype], constants=constants, domain="", group=groups, pads=[1, 1, 1, 1],
        strides=[2, 1],
    )  # fmt: skip
    assert has_integer_products_only(equals(model, inputs))


@TYPES
def test_conv_integer(dtype: Any) -> None:
    inputs = {
        "x": integers(dtype, 1, 3, 6, 6), "w": integers(dtype, 4, 3, 3, 3), "xz": zero(dtype),
        "wz": np.array(1, dtype),
    }  # fmt: skip
    model = single_node("ConvInteger", inputs, [np.int32], domain="", pads=[1, 1, 1, 1])
    assert has_integer_products_only(equals(model, inputs))


def test_matmul_integer() -> None:
    inputs = {
        "a": integers(np.uint8, 2, 5, 16), "b": integers(np.int8, 16, 6), "az": zero(np.uint8),
        "bz": np.array([0, 1, -2, 3, 4, -5], np.int8),
    }  # fmt: skip
    model = single_node("MatMulInteger", inputs, [np.int32], domain="")
    assert has_integer_products_only(equals(model, inputs))


@pytest.mark.parametrize("columns", [False, True])
def test_matmul_integer_to_float(columns: bool) -> None:
    inputs = {
        "a": integers(np.uint8, 2, 5, 16), "b": integers(np.int8, 16, 6), "as": scale(0.03),
        "bs": np.linspace(0.01, 0.04, 6, dtype=F32) if columns else scale(0.02), "az": zero(np.uint8),
        "bz": np.zeros(6, np.int8) if columns else np.array(0, np.int8), "bias": normal(6),
    }  # fmt: skip
    model = single_node("MatMulIntegerToFloat", inputs, constants=["b", "bs", "bz"])
    assert has_integer_products_only(agrees(model, inputs))


@pytest.mark.parametrize("bias", [False, True])
def test_dynamic_quantize_matmul(bias: bool) -> None:
    inputs = {
        "a": normal(3, 16), "b": integers(np.int8, 16, 6), "bs": scale(0.02), "bz": np.array(0, np.int8),
        "bias": normal(6) if bias else None,
    }  # fmt: skip
    model = single_node("DynamicQuantizeMatMul", inputs, constants=["b", "bs", "bz"])
    assert has_integer_products_only(agrees(model, inputs))


@TYPES
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
def test_qgemm(dtype: Any, quantized: bool, transposed: int) -> None:
    inputs = {
        "a": integers(dtype, 5, 16), "as": scale(0.03), "az": zero(dtype),
        "b": integers(np.int8, *((6, 16) if transposed else (16, 6))), "bs": scale(0.02),
        "bz": np.array(0, np.int8), "c": np.arange(6, dtype=np.int32) * 50,
        "ys": scale(0.3) if quantized else None, "yz": zero(dtype) if quantized else None,
    }  # fmt: skip
    model = single_node(
        "QGemm", inputs, [dtype if quantized else F32], constants=["b", "bs", "bz", "c"], transB=transposed
    )
    assert has_integer_products_only((equals if quantized else agrees)(model, inputs))


@pytest.mark.parametrize(
    ("bits", "zeros"),
    [(b, z) for b in (2, 4, 8) for z in ("none", "packed", "float") if (b, z) != (8, "float")],
)
def test_matmul_of_few_bits(bits: int, zeros: str) -> None:
    n, k, block = 6, 40, 16
    blocks = -(-k // block)
    inputs = {
        "x": normal(3, k), "b": integers(np.uint8, n, blocks, block * bits // 8),
        "s": np.abs(normal(n, blocks)) / 10,
        "z": {
            "none": None, "packed": integers(np.uint8, n, -(-blocks * bits // 8)),
            "float": np.full((n, blocks), 5.0, F32),
        }[zeros],
    }  # fmt: skip
    constants = [c for c in ("b", "s", "z") if inputs[c] is not None]
    agrees(
        single_node("MatMulNBits", inputs, constants=constants, bits=bits, block_size=block, K=k, N=n), inputs
    )


# -- elementwise -------------------------------------------------------------------------------------


@TYPES
@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("scales", [(0.013, 0.027, 0.031), (0.0071, 0.051, 0.044), (0.5, 0.25, 1.0)])
def test_binary(dtype: Any, op_type: str, scales: tuple[float, ...]) -> None:
    """All pairs of 8-bit numbers."""
    every = np.arange(256).astype(np.uint8).astype(dtype)
    a, b, c = map(scale, scales)
    inputs = {
        "a": every.reshape(256, 1), "as": a, "az": zero(dtype), "b": every.reshape(1, 256), "bs": b,
        "bz": zero(dtype, 5), "cs": c, "cz": zero(dtype, 9),
    }  # fmt: skip
    equals(single_node(op_type, inputs, [dtype]), inputs)


@TYPES
@pytest.mark.parametrize(
    ("op_type", "attributes"), [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.1})]
)
def test_unary(dtype: Any, op_type: str, attributes: dict[str, float]) -> None:
    every = np.arange(256).astype(np.uint8).astype(dtype)
    inputs = {"x": every, "xs": scale(0.037), "xz": zero(dtype), "ys": scale(0.0039), "yz": zero(dtype)}
    equals(single_node(op_type, inputs, [dtype], constants=["xs", "xz", "ys", "yz"], **attributes), inputs)


@TYPES
@pytest.mark.parametrize(
    ("opset", "size", "y_scale"), [(12, 10, 1 / 256), (13, 5, 1 / 255), (13, 700, 0.0003)]
)
def test_softmax(dtype: Any, opset: int, size: int, y_scale: float) -> None:
    inputs = {
        "x": integers(dtype, 30, 2, size), "xs": scale(0.05), "xz": zero(dtype), "ys": scale(y_scale),
        "yz": zero(dtype, -127),
    }  # fmt: skip
    constants = ["xs", "xz", "ys", "yz"]
    equals(single_node("QLinearSoftmax", inputs, [dtype], constants=constants, opset=opset, axis=-1), inputs)


@TYPES
def test_concat(dtype: Any) -> None:
    inputs = {
        "ys": scale(0.03), "yz": zero(dtype), "a": integers(dtype, 2, 3), "as": scale(0.02),
        "az": zero(dtype, 1), "b": integers(dtype, 2, 4), "bs": scale(0.03), "bz": zero(dtype),
    }  # fmt: skip
    constants = ["ys", "yz", "as", "az", "bs", "bz"]
    equals(single_node("QLinearConcat", inputs, [dtype], constants=constants, axis=1), inputs)


@TYPES
def test_where(dtype: Any) -> None:
    inputs = {
        "c": np.random.default_rng(0).random((3, 4)) > 0.5, "x": integers(dtype, 3, 4), "xs": scale(0.02),
        "xz": zero(dtype, 1), "y": integers(dtype, 1, 4), "ys": scale(0.03), "yz": zero(dtype),
        "zs": scale(0.025), "zz": zero(dtype),
    }  # fmt: skip
    constants = ["xs", "xz", "ys", "yz", "zs", "zz"]
    equals(single_node("QLinearWhere", inputs, [dtype], constants=constants), inputs)


# -- pooling, conversion ---------------------------------------------------------------------------


@TYPES
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("scales", [(0.02, 0.017), (1 / 64, 1 / 32)])
def test_pooling(dtype: Any, last: int, scales: tuple[float, float]) -> None:
    inputs = {
        "x": integers(dtype, 2, *((6, 5, 3) if last else (3, 6, 5))), "xs": scale(scales[0]),
        "xz": zero(dtype), "ys": scale(scales[1]), "yz": zero(dtype),
    }  # fmt: skip
    constants = ["xs", "xz", "ys", "yz"]
    model = single_node(
        "QLinearAveragePool", inputs, [dtype], constants=constants, kernel_shape=[2, 2], channels_last=last
    )
    equals(model, inputs)
    model = single_node("QLinearGlobalAveragePool", inputs, [dtype], constants=constants, channels_last=last)
    equals(model, inputs)


@TYPES
def test_linear_of_the_microsoft_domain(dtype: Any) -> None:
    inputs = {"x": normal(4, 3) * 3, "s": np.array([0.1, 0.02, 0.3], F32), "z": np.array([1, 2, 3], dtype)}
    equals(single_node("QuantizeLinear", inputs, [dtype], axis=1), inputs)
    inputs = {"x": integers(dtype, 4, 3), "s": inputs["s"], "z": inputs["z"]}
    agrees(single_node("DequantizeLinear", inputs, axis=1), inputs)


def test_dynamic_quantize_linear() -> None:
    inputs = {"x": normal(4, 30) * 3}
    model = single_node("DynamicQuantizeLinear", inputs, [np.uint8, F32, np.uint8], domain="")
    equals(model, inputs)


def test_what_is_not_supported_is_refused() -> None:
    inputs = {"x": normal(3, 32), "b": integers(np.uint8, 6, 2, 8), "s": normal(6, 2)}
    model = single_node("MatMulNBits", inputs, ranks=[2], bits=3, block_size=16, K=32, N=6)
    with pytest.raises(InputError, match="weights of 3 bits") as error:
        import_onnx(model)
    assert error.value.code == "GO-3006"
