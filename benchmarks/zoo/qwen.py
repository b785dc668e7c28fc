"""Qwen2 (biases on q, k, v) and Qwen3 (RMSNorm on q and k), both with grouped-query attention.

The full size has the widths of Qwen2-0.5B and Qwen3-0.6B, with 6 layers and a vocabulary of 32,000:
more layers and a longer table would only repeat the same operators.
"""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.causal_lm import decode, prefill
from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise

_LONGEST = 2048


def _qwen2(size: Size, attention: str = "sdpa") -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    if size == "full":
        config = Qwen2Config(
            vocab_size=32000,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=6,
            num_attention_heads=14,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            attn_implementation=attention,
        )
    else:
        config = Qwen2Config(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            attn_implementation=attention,
        )
    return randomise(Qwen2ForCausalLM(config))


def _qwen3(size: Size) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    if size == "full":
        config = Qwen3Config(
            vocab_size=32000,
            hidden_size=1024,
            intermediate_size=3072,
            num_hidden_layers=6,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        )
    else:
        config = Qwen3Config(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=True,
        )
    return randomise(Qwen3ForCausalLM(config))


def _prefill(model: Any, size: Size) -> Model:
    return prefill(
        model,
        vocabulary=model.config.vocab_size,
        batch=1 if size == "full" else 2,
        length=128 if size == "full" else 9,
        longest=_LONGEST,
    )


def _decode(model: Any, size: Size, head_dim: int) -> Model:
    config = model.config
    return decode(
        model,
        vocabulary=config.vocab_size,
        layers=config.num_hidden_layers,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        batch=1 if size == "full" else 2,
        past=127 if size == "full" else 7,
        longest=_LONGEST,
    )


def qwen2_prefill(size: Size) -> Model:
    return _prefill(_qwen2(size), size)


def qwen2_prefill_eager(size: Size) -> Model:
    return _prefill(_qwen2(size, "eager"), size)


def qwen2_decode(size: Size) -> Model:
    model = _qwen2(size)
    return _decode(model, size, model.config.hidden_size // model.config.num_attention_heads)


def qwen3_prefill(size: Size) -> Model:
    return _prefill(_qwen3(size), size)


def qwen3_decode(size: Size) -> Model:
    model = _qwen3(size)
    return _decode(model, size, model.config.head_dim)
