"""Vision transformers: ViT-S, Swin-T, PVT v2-B0 and CvT-13."""

from __future__ import annotations

from benchmarks.zoo.convnets import classifier
from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise


def _vit(size: Size, attention: str) -> Model:
    from transformers import ViTConfig, ViTForImageClassification

    if size == "full":
        config = ViTConfig(
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=6,
            intermediate_size=1536,
            num_labels=1000,
            attn_implementation=attention,
        )
        return classifier(randomise(ViTForImageClassification(config)), 224, resizable=False)
    config = ViTConfig(
        image_size=64,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=10,
        attn_implementation=attention,
    )
    return classifier(randomise(ViTForImageClassification(config)), 64, resizable=False)


def vit_s(size: Size) -> Model:
    return _vit(size, "sdpa")


def vit_s_eager(size: Size) -> Model:
    return _vit(size, "eager")


def swin_t(size: Size) -> Model:
    from transformers import SwinConfig, SwinForImageClassification

    if size == "full":
        return classifier(
            randomise(SwinForImageClassification(SwinConfig(num_labels=1000))), 224, resizable=False
        )
    config = SwinConfig(
        image_size=64, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=10
    )
    return classifier(randomise(SwinForImageClassification(config)), 64, resizable=False)


def pvt_v2_b0(size: Size) -> Model:
    from transformers import PvtV2Config, PvtV2ForImageClassification

    if size == "full":
        return classifier(randomise(PvtV2ForImageClassification(PvtV2Config(num_labels=1000))), 224)
    config = PvtV2Config(
        image_size=64,
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[4, 2],
        hidden_sizes=[16, 32],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        num_labels=10,
    )
    return classifier(randomise(PvtV2ForImageClassification(config)), 64)


def cvt_13(size: Size) -> Model:
    from transformers import CvtConfig, CvtForImageClassification

    if size == "full":
        return classifier(randomise(CvtForImageClassification(CvtConfig(num_labels=1000))), 224)
    config = CvtConfig(
        embed_dim=[16, 32, 48], num_heads=[1, 2, 3], depth=[1, 2, 3], mlp_ratio=[2.0, 2.0, 2.0], num_labels=10
    )
    return classifier(randomise(CvtForImageClassification(config)), 64)
