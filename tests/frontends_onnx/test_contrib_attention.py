"""Attention nodes of com.microsoft, with their masks and caches, against onnxruntime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # single_nodes stands beside this file

from single_nodes import MICROSOFT, agrees, single_node  # noqa: E402

from graphopt.errors import InputError  # noqa: E402
from graphopt.frontends.onnx import import_onnx  # noqa: E402
from graphopt.verification import OnnxRuntimeRunner, verify  # noqa: E402

F32 = np.float32
B, S, N, D = 2, 3, 4, 16
P = 5  # tokens in the cache


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(F32)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


_KEYS_SEEN = ints([1, 1, 0], [1, 1, 1])

MASKS: dict[str, np.ndarray | None] = {
    "none": None,
    "keys": _KEYS_SEEN,
    "pairs": np.tril(np.ones((B, S, S), np.int32)),
    "lengths": ints(2, 3),
    "ends and starts": ints(3, 3, 1, 0),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: str, causal: int) -> None:
    inputs = {
        "x": normal(B, S, 16), "w": normal(16, 3 * N * D) / 4, "b": normal(3 * N * D), "m": MASKS[mask]
    }  # fmt: skip
    agrees(single_node("Attention", inputs, num_heads=N, unidirectional=causal), inputs)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_a_cache(causal: int) -> None:
    inputs = {
        "x": normal(B, S, 16), "w": normal(16, 3 * N * D) / 4, "b": normal(3 * N * D), "m": None,
        "past": normal(2, B, N, P, D),
    }  # fmt: skip
    agrees(single_node("Attention", inputs, (F32, F32), num_heads=N, unidirectional=causal), inputs)


def test_attention_with_a_bias_of_scores() -> None:
    inputs = {
        "x": normal(B, S, 16), "w": normal(16, 3 * N * D) / 4, "b": normal(3 * N * D), "m": None,
        "past": None, "add": normal(1, N, S, S),
    }  # fmt: skip
    agrees(single_node("Attention", inputs, num_heads=N), inputs)


def test_attention_whose_values_are_narrower() -> None:
    sizes = [N * D, N * D, N * 6]
    inputs = {"x": normal(B, S, 16), "w": normal(16, sum(sizes)) / 4, "b": normal(sum(sizes))}
    agrees(single_node("Attention", inputs, num_heads=N, qkv_hidden_sizes=sizes, scale=0.2), inputs)


QKV = {"q": normal(B, S, N * D), "k": normal(B, 4, N * D, seed=1), "v": normal(B, 4, N * D, seed=2)}

MULTI_HEAD: dict[str, tuple[dict[str, np.ndarray | None], dict[str, Any]]] = {
    "plain": (QKV, {}),
    "bias and scale": ({**QKV, "b": normal(3 * N * D)}, {"scale": 0.2}),
    "values of another width": ({**QKV, "v": normal(B, 4, N * 6)}, {}),
    "mask of keys": ({**QKV, "b": None, "m": ints([1, 1, 1, 0], [0, 1, 1, 1])}, {}),
    "mask value": (
        {**QKV, "b": None, "m": ints([1, 1, 1, 0], [0, 1, 1, 1])}, {"mask_filter_value": -3.0}
    ),
    "mask of lengths": ({**QKV, "b": None, "m": ints(2, 4)}, {}),
    "bias of scores": ({**QKV, "b": None, "m": None, "add": normal(1, N, S, 4)}, {}),
    "keys as in a cache": ({"q": QKV["q"], "k": normal(B, N, 4, D), "v": normal(B, N, 4, D, seed=1)}, {}),
    "cache": (
        {
            "q": QKV["q"], "k": normal(B, S, N * D), "v": normal(B, S, N * D, seed=4), "b": None,
            "m": None, "add": None, "pk": normal(B, N, P, D), "pv": normal(B, N, P, D, seed=1),
        },
        {"unidirectional": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MULTI_HEAD)
def test_multi_head_attention(name: str) -> None:
    inputs, attributes = MULTI_HEAD[name]
    outputs = (F32, F32, F32) if "pk" in inputs else (F32,)
    agrees(single_node("MultiHeadAttention", inputs, outputs, num_heads=N, **attributes), inputs)


H, K = 4, 2  # query heads and key heads


def grouped(
    new: int, *, past: int | None, lengths: list[int], total: int, packed: bool = False, **more: Any
) -> dict[str, np.ndarray | None]:
    q, k, v = normal(B, new, H * D), normal(B, new, K * D, seed=1), normal(B, new, K * D, seed=2)
    caches = {"pk": None, "pv": None}
    if past is not None:
        caches = {"pk": normal(B, K, past, D), "pv": normal(B, K, past, D, seed=1)}
    return {
        "q": np.concatenate([q, k, v], axis=2) if packed else q,
        "k": None if packed else k,
        "v": None if packed else v,
        **caches,
        "last": ints(*[n - 1 for n in lengths]),
        "total": np.array(total, np.int32),
        **more,
    }


_ANGLE = normal(16, D // 2)
_TURN = {"cos": np.cos(_ANGLE), "sin": np.sin(_ANGLE)}

GROUPED: dict[str, tuple[dict[str, np.ndarray | None], dict[str, Any]]] = {
    "prompt": (grouped(S, past=None, lengths=[S, S], total=S), {}),
    "prompt, packed, rotated": (
        grouped(S, past=None, lengths=[S, S], total=S, packed=True, **_TURN), {"do_rotary": 1}
    ),
    "prompt, interleaved": (
        grouped(S, past=None, lengths=[S, S], total=S, **_TURN), {"do_rotary": 1, "rotary_interleaved": 1}
    ),
    "prompt, capped": (grouped(S, past=None, lengths=[S, S], total=S), {"softcap": 2.0, "scale": 0.3}),
    "prompt, window": (grouped(9, past=None, lengths=[9, 9], total=9), {"local_window_size": 3}),
    "prompt, smooth": (grouped(S, past=None, lengths=[S, S], total=S), {"smooth_softmax": 1}),
    "prompt into a buffer": (grouped(S, past=8, lengths=[S, S], total=S), {}),
    "token in a buffer": (grouped(1, past=8, lengths=[6, 6], total=6, **_TURN), {"do_rotary": 1}),
    "token in a buffer, ragged": (grouped(1, past=8, lengths=[3, 6], total=6, **_TURN), {"do_rotary": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPED)
def test_grouped_query_attention(name: str) -> None:
    inputs, attributes = GROUPED[name]
    model = single_node(
        "GroupQueryAttention", inputs, (F32, F32, F32), constants=["total"], num_heads=H, kv_num_heads=K,
        **attributes,
    )  # fmt: skip
    program = import_onnx(model).check()
    runner = OnnxRuntimeRunner(model.SerializeToString())
    given = [torch.from_numpy(inputs[i.name]) for i in model.graph.input]

    def where_defined(*x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Behind a sequence's end a buffer holds whatever it held: nothing to compare there."""
        results, ours = runner(*x), program(*x)
        for row, last in enumerate(inputs["last"].tolist()):
            for cache in (1, 2):
                results[cache][row, :, last + 1 :] = ours[cache][row, :, last + 1 :]
        return results

    verify(program, where_defined, inputs=[given], runs=4).raise_if_failed()


def _growing_cache() -> onnx.ModelProto:
    """As model builders write it: lengths come from an attention mask, all sizes vary."""
    text = f"""<ir_version: 8, opset_import: ["": 17, "{MICROSOFT}": 1]>
    g (float[batch, new, {H * D}] q, float[batch, new, {K * D}] k, float[batch, new, {K * D}] v,
       float[batch, {K}, past, {D}] pk, float[batch, {K}, past, {D}] pv, int64[batch, total] mask)
       => (float[batch, new, {H * D}] y, float[batch, {K}, total, {D}] yk, float[batch, {K}, total, {D}] yv)
    <int64[1] one = {{1}}, int64 index = {{1}}> {{
        seen = ReduceSum <keepdims = 0> (mask, one)
        last = Sub(seen, one)
        last32 = Cast <to = 6> (last)
        shape = Shape(mask)
        length = Gather(shape, index)
        total32 = Cast <to = 6> (length)
        y, yk, yv = {MICROSOFT}.GroupQueryAttention <num_heads = {H}, kv_num_heads = {K}>
            (q, k, v, pk, pv, last32, total32)
    }}"""
    return onnx.parser.parse_model(text)


def test_a_cache_that_grows_stays_dynamic() -> None:
    model = _growing_cache()
    program = import_onnx(model).check()
    assert program.signature.inputs[3].shape == ("batch", K, "past", D)
    batches = []
    for batch, new, past in ((2, 1, 5), (1, 1, 3), (3, 1, 8), (2, 1, 2), (1, 1, 9)):
        arrays = (
            normal(batch, new, H * D), normal(batch, new, K * D), normal(batch, new, K * D, seed=1),
            normal(batch, K, past, D), normal(batch, K, past, D, seed=1),
            np.ones((batch, past + new), np.int64),
        )  # fmt: skip
        batches.append([torch.from_numpy(a) for a in arrays])
    verify(program, OnnxRuntimeRunner(model.SerializeToString()), inputs=batches, runs=4).raise_if_failed()


@pytest.mark.parametrize(
    ("op_type", "attributes", "message"),
    [
        ("Attention", {"past_present_share_buffer": 1}, "cache of fixed length"),
        ("Attention", {"do_rotary": 1}, "rotates"),
    ],
)
def test_what_is_not_supported_is_refused(op_type: str, attributes: dict[str, int], message: str) -> None:
    inputs = {"x": normal(B, S, 16), "w": normal(16, 3 * N * D), "b": normal(3 * N * D)}
    with pytest.raises(InputError, match=message) as error:
        import_onnx(single_node(op_type, inputs, num_heads=N, ranks=[3], **attributes))
    assert error.value.code == "GO-3006"
