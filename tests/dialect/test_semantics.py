"""What the ops mean, against implementations that are not ours."""

from __future__ import annotations

import pytest
import torch

from graphopt.dialect import registry
from graphopt.errors import VerificationError
from graphopt.frontends.torch_module import capture_torch
from graphopt.verification import verify

registry.load()
OPS = torch.ops.graphopt


class _Function(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.function(*tensors)


def _same(independent, ours, *tensors: torch.Tensor) -> None:
    """Two functions agree under the noise rule on these tensors and on draws."""
    reference = capture_torch(_Function(independent).eval(), tensors)
    candidate = capture_torch(_Function(ours).eval(), tensors)
    verify(reference, candidate, inputs=list(tensors)).raise_if_failed()
    verify(reference, candidate, draws=2).raise_if_failed()


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


KEPT = [0, 2, 3, 7, 8]


def _widened(x: torch.Tensor) -> torch.Tensor:
    """The kept channels at their places among ten, the others zero."""
    wide = torch.zeros(*x.shape[:-1], 10, dtype=x.dtype)
    return torch.index_copy(wide, -1, torch.tensor(KEPT), x)


def test_rms_norm_with_the_old_count_is_the_norm_before_pruning() -> None:
    weight = _normal(10)
    _same(
        lambda x, w: torch.rms_norm(_widened(x), (10,), w, 1e-5)[..., KEPT],
        lambda x, w: OPS.rms_norm_counted(x, w[KEPT], 1e-5, 10),
        _normal(3, 4, 5),
        weight,
    )


def test_rms_norm_with_the_new_count_is_another_function() -> None:
    with pytest.raises(VerificationError):
        _same(
            lambda x: torch.rms_norm(_widened(x), (10,), None, 1e-5)[..., KEPT],
            lambda x: OPS.rms_norm_counted(x, None, 1e-5, 5),
            _normal(3, 4, 5),
        )


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_layer_norm_with_the_old_count_is_the_norm_before_pruning(shift: float) -> None:
    _same(
        lambda x, w, b: torch.layer_norm(_widened(x), (10,), w, b, 1e-5)[..., KEPT],
        lambda x, w, b: OPS.layer_norm_counted(x, w[KEPT], b[KEPT], 1e-5, 10),
        _normal(3, 4, 5) + shift,
        _normal(10),
        _normal(10) + 1,
    )


def test_layer_norm_of_padded_channels_is_the_norm_without_them() -> None:
    _same(
        lambda x: torch.layer_norm(x, (5,), None, None, 1e-5),
        lambda x: OPS.layer_norm_counted(_widened(x), None, None, 1e-5, 5)[..., KEPT],
        _normal(3, 4, 5),
    )


def test_rotary_is_what_hugging_face_llama_does() -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    _same(
        lambda x, cos, sin: apply_rotary_pos_emb(x, x, cos, sin)[0],
        lambda x, cos, sin: OPS.rotary_embedding(x, cos.unsqueeze(1), sin.unsqueeze(1), False, 0),
        _normal(2, 3, 5, 8),
        _normal(2, 5, 8),
        _normal(2, 5, 8),
    )


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [0, 4])
def test_rotary_is_what_onnx_defines(interleaved: bool, rotary_dim: int) -> None:
    import onnx
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    pairs = (rotary_dim or 8) // 2
    x, cos, sin = _normal(2, 3, 5, 8), _normal(2, 5, pairs), _normal(2, 5, pairs)
    node = helper.make_node(
        "RotaryEmbedding",
        ["x", "cos", "sin"],
        ["y"],
        interleaved=int(interleaved),
        rotary_embedding_dim=rotary_dim,
    )
    graph = helper.make_graph(
        [node],
        "rotary",
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, t.shape)
            for n, t in (("x", x), ("cos", cos), ("sin", sin))
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    onnx.checker.check_model(model)
    session = ReferenceEvaluator(model)

    def onnx_rotary(*tensors: torch.Tensor) -> torch.Tensor:
        feed = {n: t.numpy() for n, t in zip(("x", "cos", "sin"), tensors, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    ours = capture_torch(
        _Function(
            lambda x, cos, sin: OPS.rotary_embedding(
                x, cos.unsqueeze(1), sin.unsqueeze(1), interleaved, rotary_dim
            )
        ).eval(),
        (x, cos, sin),
    )
    verify(ours, onnx_rotary, draws=2).raise_if_failed()


def test_rotary_turns_by_the_sum_of_the_angles() -> None:
    """Rotations compose, and keep the length of each pair."""
    x, a, b = _normal(4, 6), _normal(4, 3), _normal(4, 3)

    def turn(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        return OPS.rotary_embedding(x, angle.cos(), angle.sin(), True, 0)

    _same(lambda x, a, b: turn(turn(x, a), b), lambda x, a, b: turn(x, a + b), x, a, b)


def test_hard_swish_and_hard_sigmoid_have_atens_as_special_cases() -> None:
    x = _normal(3, 7) * 4
    _same(torch.nn.functional.hardswish, lambda x: OPS.hard_swish(x, 3.0, 6.0, 6.0), x)
    _same(torch.nn.functional.hardsigmoid, lambda x: OPS.hard_sigmoid(x, 1 / 6, 0.5), x)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gated_activations_are_the_products_they_fuse(approximate: str) -> None:
    functional = torch.nn.functional
    gate, up = _normal(3, 7), _normal(3, 7)
    _same(lambda g, u: functional.silu(g) * u, OPS.silu_mul, gate, up)
    _same(
        lambda g, u: functional.gelu(g, approximate=approximate) * u,
        lambda g, u: OPS.gelu_mul(g, u, approximate),
        gate,
        up,
    )


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_atens_with_grouped_heads(causal: bool) -> None:
    _same(
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=0.4, enable_gqa=True
        ),
        lambda q, k, v: OPS.attention(q, k, v, None, 0.4, causal, 0.0),
        _normal(2, 6, 5, 4),
        _normal(2, 2, 5, 4),
        _normal(2, 2, 5, 4),
    )


def test_attention_of_a_blind_query_is_zero_as_in_aten() -> None:
    mask = torch.tensor([[True, False, True], [False, False, False]])
    _same(
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.4),
        lambda q, k, v: OPS.attention(q, k, v, mask, 0.4, False, 0.0),
        _normal(1, 2, 2, 4),
        _normal(1, 2, 3, 4),
        _normal(1, 2, 3, 4),
    )


def test_softcap_bends_scores_before_the_mask_as_in_gemma2() -> None:
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    class _Module(torch.nn.Module):
        num_key_value_groups = 3

    module = _Module().eval()

    def gemma2(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y, _ = eager_attention_forward(module, q, k, v, mask, scaling=0.4, softcap=2.0)
        return y.transpose(1, 2)

    _same(
        gemma2,
        lambda q, k, v, mask: OPS.attention(q, k, v, mask, 0.4, False, 2.0),
        _normal(2, 6, 5, 4),
        _normal(2, 2, 5, 4),
        _normal(2, 2, 5, 4),
        _normal(2, 1, 5, 5),
    )
