"""Why tests fail that are meant to: what this importer refuses by design."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Tests whose name matches ``pattern`` are not supported, because of ``text``."""

    pattern: str
    text: str


REASONS = (
    Reason(
        r"string_|strnorm|regex_full_match|equal_string|label_encoder",
        "strings: a program holds numbers only",
    ),
    Reason(r"image_decoder", "decodes image files: data is read before the model, not in it"),
    Reason(
        r"bernoulli|training_dropout(_default)?(_mask)?$",
        "random: the expected output is that of one generator, and is not compared",
    ),
    Reason(
        r"attention_4d_(causal_)?fp16$|attention_[34]d_(causal|padded_kv|causal_padded_kv|attn_mask_causal)_bf16$",
        "half precision: scaled_dot_product_attention rounds once where the test's data were rounded after "
        "each step; they differ by one unit in the last place",
    ),
    Reason(
        r"resize_downsample_scales_(linear|cubic)_align_corners$",
        "the standard's text and onnxruntime take the whole length of the resized axis, the test's data the "
        "length before it was rounded down",
    ),
    Reason(r"gradient_of_", "differentiates inside the graph: a program is differentiated by torch"),
    Reason(r"sequence_model8", "has an axis of no elements; a dynamic axis has at least one"),
    Reason(
        r"dft_inverse", "the expected zeros hold float32 noise of numpy's transform, within an absolute 1e-7"
    ),
)


def reason_of(name: str) -> str | None:
    """The reason for which a test fails, or None where there is none: then it is a bug or a gap."""
    return next((r.text for r in REASONS if re.search(r.pattern, name)), None)
