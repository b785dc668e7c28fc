"""Whisper-tiny: the audio encoder, and one step of the decoder with its caches."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.seq2seq import decode_step
from benchmarks.zoo.weights import randomise
from benchmarks.zoo.wrap import Field


def _model(size: Size) -> Any:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    if size == "full":
        config = WhisperConfig()
    else:
        config = WhisperConfig(
            vocab_size=100,
            num_mel_bins=8,
            encoder_layers=2,
            encoder_attention_heads=4,
            decoder_layers=2,
            decoder_attention_heads=4,
            decoder_ffn_dim=64,
            encoder_ffn_dim=64,
            d_model=32,
            max_source_positions=20,
            max_target_positions=32,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=3,
            begin_suppress_tokens=None,
        )
    return randomise(WhisperForConditionalGeneration(config))


def whisper_tiny_encoder(size: Size) -> Model:
    model = _model(size)
    config = model.config
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions, generator=generator)
    return Model(
        module=Field(model.model.encoder, ("input_features",), ("last_hidden_state",)).eval(),
        inputs=(features,),
        input_names=("input_features",),
        output_names=("last_hidden_state",),
        axes=({0: "batch"},),
        ranges={"batch": (1, 64)},
    )


def whisper_tiny_decode(size: Size) -> Model:
    model = _model(size)
    config = model.config
    return decode_step(
        model,
        vocabulary=config.vocab_size,
        layers=config.decoder_layers,
        heads=config.decoder_attention_heads,
        head_dim=config.d_model // config.decoder_attention_heads,
        batch=1 if size == "full" else 2,
        past=31 if size == "full" else 5,
        source=config.max_source_positions,
        longest=config.max_target_positions,
        source_varies=False,
    )
