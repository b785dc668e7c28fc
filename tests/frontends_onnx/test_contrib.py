"""Operators of com.microsoft with float arithmetic, against onnxruntime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # single_nodes stands beside this file

from single_nodes import agrees, single_node  # noqa: E402

from graphopt.errors import InputError  # noqa: E402
from graphopt.frontends.onnx import import_onnx  # noqa: E402

F32 = np.float32


def normal(*shape: int, seed: int = 0, dtype: Any = F32) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


Case = tuple[str, dict[str, np.ndarray | None], dict[str, Any]]

ELEMENTWISE: dict[str, Case] = {
    "Gelu": ("Gelu", {"x": normal(2, 5)}, {}),
    "BiasGelu": ("BiasGelu", {"x": normal(2, 3, 8), "b": normal(8)}, {}),
    "FastGelu": ("FastGelu", {"x": normal(2, 8)}, {}),
    "FastGelu with a bias": ("FastGelu", {"x": normal(2, 3, 8), "b": normal(8)}, {}),
    "QuickGelu": ("QuickGelu", {"x": normal(2, 8)}, {}),
    "QuickGelu, alpha 1": ("QuickGelu", {"x": normal(2, 8)}, {"alpha": 1.0}),
}  # fmt: skip

FUSED: dict[str, Case] = {
    **{
        f"FusedConv, {name}": (
            "FusedConv",
            {"x": normal(1, 4, 7, 6), "w": normal(6, 2, 3, 3), "b": normal(6)},
            {"activation": name, "group": 2, "pads": [1, 1, 1, 1], **({"activation_params": p} if p else {})},
        )
        for name, p in {
            "Relu": [], "Tanh": [], "Sigmoid": [], "LeakyRelu": [0.2], "Clip": [-0.5, 1.5],
            "HardSigmoid": [0.3, 0.4],
        }.items()
    },
    "FusedConv, sum": (
        "FusedConv",
        {"x": normal(1, 2, 5, 5), "w": normal(3, 2, 3, 3), "b": normal(3), "z": normal(1, 3, 5, 5)},
        {"activation": "Relu", "auto_pad": "SAME_UPPER"},
    ),
    "FusedGemm": (
        "FusedGemm",
        {"a": normal(3, 4), "b": normal(5, 4), "c": normal(5)},
        {"activation": "LeakyRelu", "activation_alpha": 0.3, "transB": 1, "alpha": 0.5},
    ),
    **{
        f"FusedMatMul {a}{b}{ba}{bb}": (
            "FusedMatMul",
            {
                "a": normal(*{(0, 0): (2, 3, 4, 5), (1, 0): (2, 3, 5, 4), (0, 1): (4, 2, 3, 5),
                              (1, 1): (5, 2, 3, 4)}[a, ba]),
                "b": normal(*{(0, 0): (2, 3, 5, 6), (1, 0): (2, 3, 6, 5), (0, 1): (5, 2, 3, 6),
                              (1, 1): (6, 2, 3, 5)}[b, bb], seed=1),
            },
            {"transA": a, "transB": b, "transBatchA": ba, "transBatchB": bb, "alpha": 0.25},
        )
        for a in (0, 1) for b in (0, 1) for ba in (0, 1) for bb in (0, 1)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", [*ELEMENTWISE, *FUSED])
def test_one_output(name: str) -> None:
    op_type, inputs, attributes = {**ELEMENTWISE, **FUSED}[name]
    agrees(single_node(op_type, inputs, **attributes), inputs)


def test_skip_layer_norm() -> None:
    inputs = {"x": normal(2, 3, 8), "skip": normal(2, 3, 8, seed=1), "g": normal(8), "s": normal(8, seed=2),
              "b": normal(8, seed=3)}  # fmt: skip
    agrees(single_node("SkipLayerNormalization", inputs, (F32, None, None, F32), epsilon=1e-5), inputs)
    inputs = {"x": normal(2, 3, 8), "skip": normal(3, 8, seed=1), "g": normal(8)}
    agrees(single_node("SkipLayerNormalization", inputs, epsilon=1e-5), inputs)


def test_skip_rms_norm() -> None:
    inputs = {"x": normal(2, 3, 8), "skip": normal(2, 3, 8, seed=1), "g": normal(8), "b": normal(8, seed=3)}
    outputs = (F32, None, None, F32)
    agrees(single_node("SkipSimplifiedLayerNormalization", inputs, outputs, epsilon=1e-5), inputs)


@pytest.mark.parametrize("axis", [-1, 1])
def test_rms_norm_of_the_standard_domain(axis: int) -> None:
    inputs = {"x": normal(2, 3, 8), "g": normal(*(2, 3, 8)[axis:])}
    model = single_node(
        "SimplifiedLayerNormalization", inputs, (F32, F32), domain="", axis=axis, epsilon=1e-5
    )
    agrees(model, inputs)


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_embed_layer_norm(segments: bool, mask: bool) -> None:
    generator = np.random.default_rng(0)
    inputs: dict[str, np.ndarray | None] = {
        "ids": generator.integers(0, 11, (2, 5), dtype=np.int32),
        "segments": generator.integers(0, 2, (2, 5), dtype=np.int32) if segments else None,
        "words": normal(11, 8), "places": normal(9, 8), "kinds": normal(2, 8) if segments else None,
        "g": normal(8), "b": normal(8, seed=1),
        "mask": np.array([[1, 1, 1, 0, 0], [1] * 5], np.int32) if mask else None,
    }  # fmt: skip
    outputs = (F32, np.int32, F32)
    constants = [n for n in ("words", "places", "kinds", "g", "b") if inputs[n] is not None]
    agrees(single_node("EmbedLayerNormalization", inputs, outputs, constants=constants, epsilon=1e-5), inputs)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(
    ("shape", "positions", "width", "attributes"),
    [
        ((2, 3, 24), np.array([[0, 1, 2], [5, 6, 7]]), 8, {}),
        ((2, 3, 24), np.array([4]), 8, {}),
        ((2, 3, 4, 8), np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), 8, {}),
        ((2, 3, 4, 8), np.array([2]), 4, {"rotary_embedding_dim": 4, "num_heads": 3}),
    ],
)
def test_rotary(
    shape: tuple[int, ...], positions: np.ndarray, width: int, attributes: dict[str, int], interleaved: int
) -> None:
    angle = normal(9, width // 2)
    inputs = {"x": normal(*shape), "p": positions, "cos": np.cos(angle), "sin": np.sin(angle)}
    agrees(single_node("RotaryEmbedding", inputs, interleaved=interleaved, **attributes), inputs)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown activation": (
        lambda: single_node(
            "FusedConv", {"x": normal(1, 1, 3, 3), "w": normal(1, 1, 1, 1)}, activation="Swirl", ranks=[4]
        ),
        "activation 'Swirl'",
    ),
    "an activation without its parameters": (
        lambda: single_node(
            "FusedConv", {"x": normal(1, 1, 3, 3), "w": normal(1, 1, 1, 1)}, activation="Clip", ranks=[4]
        ),
        "Clip with 0 of 2 parameters",
    ),
    "training outputs": (
        lambda: single_node(
            "SkipLayerNormalization", {"x": normal(1, 2, 4), "s": normal(1, 2, 4), "g": normal(4)}, (F32, F32)
        ),
        "training only",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_refused_with_the_node(what: str) -> None:
    build, message = REFUSED[what]
    with pytest.raises(InputError, match=message) as error:
        import_onnx(build())
    assert (error.value.code, error.value.node) == ("GO-3006", "node")
