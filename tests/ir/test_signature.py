"""Signatures: ranges, dimension expressions, JSON."""

from __future__ import annotations

import json

import pytest
import torch

from graphopt.ir.signature import DimRange, Signature, TensorSpec, dtype_from_name, evaluate_dim


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("h", 7),
        ("2*h", 14),
        ("h + w", 16),
        ("(h - 1)//2 + 1", 4),
        ("h**2", 49),
        ("Mod(w, 4)", 1),
        ("Max(h, w)", 9),
        ("-h + w", 2),
        ("floor(h/2)", 3),
        ("ceiling(h/2)", 4),
        ("FloorDiv(w, 2)", 4),
    ],
)
def test_expressions(text: str, value: int) -> None:
    assert evaluate_dim(text, {"h": 7, "w": 9}) == value


@pytest.mark.parametrize(
    "text", ["__import__('os').system('true')", "h.real", "h if w else 1", "[h]", "1 +", "open(h)"]
)
def test_only_arithmetic_is_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match="not a dimension expression"):
        evaluate_dim(text, {"h": 1, "w": 1})


def test_unknown_names_and_fractions() -> None:
    with pytest.raises(KeyError):
        evaluate_dim("h + 1", {})
    with pytest.raises(ValueError, match="not an integer"):
        evaluate_dim("h/2", {"h": 3})


def test_ranges() -> None:
    sizes = DimRange(32, 128, multiple_of=32)
    assert [s for s in (0, 32, 48, 64, 128, 160) if s in sizes] == [32, 64, 128]
    assert str(sizes) == "[32, 128], multiple of 32"
    assert 10**9 in DimRange()


def test_json_round_trip() -> None:
    signature = Signature(
        (TensorSpec("x", torch.float16, ("n", 3)), TensorSpec("ids", torch.int64, (1,))),
        (TensorSpec("y", torch.bool, ("2*n",)),),
        {"n": DimRange(2, 8, 2)},
        {"y": "x"},
    )
    assert Signature.from_dict(json.loads(json.dumps(signature.to_dict()))) == signature
    assert signature.resolve(signature.outputs[0].shape, {"n": 4}) == (8,)
    assert str(signature) == "(x: float16[n, 3], ids: int64[1]) -> (y: bool[2*n])"


def test_dtype_names() -> None:
    assert dtype_from_name("bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="no dtype"):
        dtype_from_name("nn")
