"""Convolutional networks: ResNet-50, MobileNetV2, ConvNeXt-T and PoolFormer-S12."""

from __future__ import annotations

from torch import nn

from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import image, randomise
from benchmarks.zoo.wrap import Field


def classifier(model: nn.Module, side: int, *, resizable: bool = True, smallest: int = 64) -> Model:
    """A picture classifier ``[B, 3, H, W] -> [B, labels]``.

    The batch varies and, if ``resizable``, H and W from ``smallest`` up.
    """
    spatial = {2: "height", 3: "width"} if resizable else {}
    return Model(
        module=Field(model, ("pixel_values",), ("logits",)).eval(),
        inputs=(image(1, side, side),),
        input_names=("pixel_values",),
        output_names=("logits",),
        axes=({0: "batch", **spatial},),
        ranges={"batch": (1, 64), "height": (smallest, 1024), "width": (smallest, 1024)},
        multiples={"height": 32, "width": 32} if resizable else {},
    )


def resnet50(size: Size) -> Model:
    from transformers import ResNetConfig, ResNetForImageClassification

    if size == "full":
        return classifier(randomise(ResNetForImageClassification(ResNetConfig(num_labels=1000))), 224)
    config = ResNetConfig(embedding_size=16, hidden_sizes=[32, 64], depths=[2, 2], num_labels=10)
    return classifier(randomise(ResNetForImageClassification(config)), 64)


def mobilenet_v2(size: Size) -> Model:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    # tf_padding computes paddings from Python ints of the example, which would fix the size of the picture.
    if size == "full":
        config = MobileNetV2Config(num_labels=1000, tf_padding=False)
        return classifier(randomise(MobileNetV2ForImageClassification(config)), 224)
    config = MobileNetV2Config(
        depth_multiplier=0.25, num_labels=10, tf_padding=False, finegrained_output=False
    )
    return classifier(randomise(MobileNetV2ForImageClassification(config)), 64)


def convnext_t(size: Size) -> Model:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    if size == "full":
        return classifier(randomise(ConvNextForImageClassification(ConvNextConfig(num_labels=1000))), 224)
    config = ConvNextConfig(num_stages=2, hidden_sizes=[16, 32], depths=[1, 1], num_labels=10)
    return classifier(randomise(ConvNextForImageClassification(config)), 64)


def poolformer_s12(size: Size) -> Model:
    from transformers import PoolFormerConfig, PoolFormerForImageClassification

    if size == "full":
        return classifier(randomise(PoolFormerForImageClassification(PoolFormerConfig(num_labels=1000))), 224)
    config = PoolFormerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        hidden_sizes=[16, 32],
        patch_sizes=[7, 3],
        strides=[4, 2],
        padding=[2, 1],
        num_labels=10,
    )
    return classifier(randomise(PoolFormerForImageClassification(config)), 64)
