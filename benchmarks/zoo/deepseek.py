"""DeepSeek-V2: multi-head latent attention and a mixture of experts.

DeepSeek-V2-Lite has 16 billion parameters; the full size here keeps its ratios (low-rank keys and
values, rotary and plain parts of a head, shared and routed experts, a dense first layer) in 4 layers
of width 512.  Experts run batched: the loop over the experts that were hit, which ``transformers``
uses by default, depends on data and cannot be captured.
"""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.causal_lm import decode, prefill
from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise

_LONGEST = 2048


def _model(size: Size) -> Any:
    from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

    common: dict[str, Any] = dict(first_k_dense_replace=1, topk_method="greedy", norm_topk_prob=False)
    if size == "full":
        config = DeepseekV2Config(
            vocab_size=16000,
            hidden_size=512,
            intermediate_size=1408,
            moe_intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=8,
            kv_lora_rank=128,
            q_lora_rank=192,
            qk_nope_head_dim=64,
            qk_rope_head_dim=32,
            v_head_dim=64,
            n_routed_experts=16,
            n_shared_experts=2,
            num_experts_per_tok=4,
            **common,
        )
    else:
        config = DeepseekV2Config(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=64,
            moe_intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            kv_lora_rank=16,
            q_lora_rank=24,
            qk_nope_head_dim=16,
            qk_rope_head_dim=8,
            v_head_dim=12,
            n_routed_experts=4,
            n_shared_experts=1,
            num_experts_per_tok=2,
            **common,
        )
    model = randomise(DeepseekV2ForCausalLM(config))
    model.set_experts_implementation("batched_mm")
    return model


def deepseek_v2_prefill(size: Size) -> Model:
    model = _model(size)
    return prefill(
        model,
        vocabulary=model.config.vocab_size,
        batch=1 if size == "full" else 2,
        length=128 if size == "full" else 9,
        longest=_LONGEST,
    )


def deepseek_v2_decode(size: Size) -> Model:
    model = _model(size)
    config = model.config
    return decode(
        model,
        vocabulary=config.vocab_size,
        layers=config.num_hidden_layers,
        kv_heads=1,  # the cache holds the latent: low-rank keys and values, and the rotary part
        head_dim=config.kv_lora_rank,
        value_dim=config.qk_rope_head_dim,
        batch=1 if size == "full" else 2,
        past=127 if size == "full" else 7,
        longest=_LONGEST,
    )
