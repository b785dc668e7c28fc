"""MobileNetV3-Large (Howard et al., "Searching for MobileNetV3", ICCV 2019, table 1), random weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from benchmarks.zoo.convnets import classifier
from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import Size
from benchmarks.zoo.weights import randomise


@dataclass(frozen=True)
class Block:
    """A row of the table: kernel, expanded channels, output channels, squeeze-and-excite, h-swish, stride."""

    kernel: int
    expanded: int
    outputs: int
    excite: bool
    hard: bool
    stride: int


LARGE = (
    Block(3, 16, 16, False, False, 1),
    Block(3, 64, 24, False, False, 2),
    Block(3, 72, 24, False, False, 1),
    Block(5, 72, 40, True, False, 2),
    Block(5, 120, 40, True, False, 1),
    Block(5, 120, 40, True, False, 1),
    Block(3, 240, 80, False, True, 2),
    Block(3, 200, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 480, 112, True, True, 1),
    Block(3, 672, 112, True, True, 1),
    Block(5, 672, 160, True, True, 2),
    Block(5, 960, 160, True, True, 1),
    Block(5, 960, 160, True, True, 1),
)


def _convolution(
    inputs: int, outputs: int, kernel: int, activation: nn.Module | None, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3),
    ]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


class SqueezeExcite(nn.Module):
    """Channels weighted by what their means say, through a quarter of them (rounded to eights)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // 4 + 4) // 8 * 8)
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        return x * nn.functional.hardsigmoid(scale)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, row: Block) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hard else nn.ReLU
        self.residual = row.stride == 1 and inputs == row.outputs
        parts: list[nn.Module] = []
        if row.expanded != inputs:
            parts.append(_convolution(inputs, row.expanded, 1, activation()))
        parts.append(
            _convolution(row.expanded, row.expanded, row.kernel, activation(), row.stride, row.expanded)
        )
        if row.excite:
            parts.append(SqueezeExcite(row.expanded))
        self.body = nn.Sequential(*parts, _convolution(row.expanded, row.outputs, 1, None))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.body(x)
        return x + result if self.residual else result


class MobileNetV3(nn.Module):
    """``[B, 3, H, W] -> [B, labels]``."""

    def __init__(self, rows: tuple[Block, ...], last: int, labels: int) -> None:
        super().__init__()
        channels = 16
        blocks: list[nn.Module] = [_convolution(3, channels, 3, nn.Hardswish(), 2)]
        for row in rows:
            blocks.append(InvertedResidual(channels, row))
            channels = row.outputs
        self.features = nn.Sequential(*blocks, _convolution(channels, 6 * channels, 1, nn.Hardswish()))
        self.head = nn.Sequential(nn.Linear(6 * channels, last), nn.Hardswish(), nn.Linear(last, labels))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.features(pixel_values).mean((2, 3)))
        return result


def mobilenet_v3_large(size: Size) -> Model:
    rows, last, labels = (LARGE, 1280, 1000) if size == "full" else (LARGE[:5], 64, 10)
    model = randomise(MobileNetV3(rows, last, labels))
    return replace(classifier(model, 224 if size == "full" else 64), module=model.eval())
