"""GPT-2: learned positions, fused QKV as Conv1D, tanh GELU, tied embeddings."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.causal_lm import decode, prefill
from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise


def _config(size: Size) -> Any:
    from transformers import GPT2Config

    if size == "full":
        return GPT2Config()
    return GPT2Config(
        vocab_size=100, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1
    )


def gpt2_prefill(size: Size) -> Model:
    from transformers import GPT2LMHeadModel

    config = _config(size)
    return prefill(
        randomise(GPT2LMHeadModel(config)),
        vocabulary=config.vocab_size,
        length=128 if size == "full" else 9,
        longest=config.n_positions,
    )


def gpt2_decode(size: Size) -> Model:
    from transformers import GPT2LMHeadModel

    config = _config(size)
    return decode(
        randomise(GPT2LMHeadModel(config)),
        vocabulary=config.vocab_size,
        layers=config.n_layer,
        kv_heads=config.n_head,
        head_dim=config.n_embd // config.n_head,
        past=127 if size == "full" else 7,
        longest=config.n_positions,
    )
