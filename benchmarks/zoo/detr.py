"""DETR: a ResNet-50 backbone, an encoder-decoder with sine positions, and two heads."""

from __future__ import annotations

from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import image, randomise
from benchmarks.zoo.wrap import Field


def detr_resnet50(size: Size) -> Model:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    if size == "full":
        config = DetrConfig(
            use_timm_backbone=False, backbone_config=ResNetConfig(out_features=["stage4"]), num_labels=91
        )
        height, width = 320, 384
    else:
        backbone = ResNetConfig(
            embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], out_features=["stage2"]
        )
        config = DetrConfig(
            use_timm_backbone=False,
            backbone_config=backbone,
            num_queries=10,
            encoder_layers=1,
            decoder_layers=1,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            d_model=32,
            num_labels=5,
        )
        height, width = 64, 96
    return Model(
        module=Field(
            randomise(DetrForObjectDetection(config)), ("pixel_values",), ("logits", "pred_boxes")
        ).eval(),
        inputs=(image(1, height, width),),
        input_names=("pixel_values",),
        output_names=("logits", "pred_boxes"),
        axes=({0: "batch"},),
        ranges={"batch": (1, 16)},
    )
