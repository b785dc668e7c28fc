"""T5-small: the encoder, and one step of the decoder with its caches."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.bert import padding_mask
from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.seq2seq import decode_step
from benchmarks.zoo.weights import randomise, token_ids
from benchmarks.zoo.wrap import Field


def _config(size: Size) -> Any:
    from transformers import T5Config

    if size == "full":
        return T5Config(decoder_start_token_id=0)
    return T5Config(
        vocab_size=100,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )


def t5_small_encoder(size: Size) -> Model:
    from transformers import T5EncoderModel

    config = _config(size)
    batch, length = (1, 128) if size == "full" else (2, 9)
    return Model(
        module=Field(
            randomise(T5EncoderModel(config)), ("input_ids", "attention_mask"), ("last_hidden_state",)
        ).eval(),
        inputs=(token_ids((batch, length), config.vocab_size), padding_mask(batch, length)),
        input_names=("input_ids", "attention_mask"),
        output_names=("last_hidden_state",),
        axes=({0: "batch", 1: "sequence"}, {0: "batch", 1: "sequence"}),
        ranges={"batch": (1, 64), "sequence": (2, 512)},
    )


def t5_small_decode(size: Size) -> Model:
    from transformers import T5ForConditionalGeneration

    config = _config(size)
    batch, past, source = (1, 31, 128) if size == "full" else (2, 5, 9)
    return decode_step(
        randomise(T5ForConditionalGeneration(config)),
        vocabulary=config.vocab_size,
        layers=config.num_decoder_layers,
        heads=config.num_heads,
        head_dim=config.d_kv,
        batch=batch,
        past=past,
        source=source,
        longest=512,
    )
