"""Models for :mod:`benchmarks.onnx_exports`: small ones of the zoo, and nets written by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.zoo.model import Model
from benchmarks.zoo.registry import get
from benchmarks.zoo.weights import image, randomise, token_ids

_ZOO = (
    "resnet50",
    "mobilenet-v2",
    "convnext-t",
    "vit-s",
    "swin-t",
    "bert-base",
    "minilm",
    "gpt2-prefill",
    "smollm2-prefill",
    "smollm2-decode",
    "t5-small-encoder",
    "whisper-tiny-encoder",
)


class Tagger(nn.Module):
    """Embedding, a bidirectional LSTM, a GRU with an initial state, and a score for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(12, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(16, 10, batch_first=True)
        self.head = nn.Linear(10, 5)

    def forward(self, tokens: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, _ = self.lstm(self.embedding(tokens))
        features, last = self.gru(features, state)
        return self.head(features), last


class Detector(nn.Module):
    """A backbone of two levels, a pyramid, and boxes from anchors that follow the size of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1))
        self.lateral = nn.Conv2d(16, 8, 1)
        self.head = nn.Conv2d(8, 2 * 4 + 2 * 3, 1)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.stem(picture)
        coarse = self.lateral(self.down(fine))
        fine = fine + nn.functional.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
        levels = [self._decode(level, stride) for level, stride in ((fine, 2), (coarse, 4))]
        boxes = torch.cat([box for box, _ in levels], dim=1)
        scores = torch.cat([score for _, score in levels], dim=1)
        best, _ = scores.max(dim=-1)
        return boxes.clamp(min=0), torch.cat([scores, best.unsqueeze(-1)], dim=-1)

    def _decode(self, level: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
        batch, _, height, width = level.shape
        raw = self.head(level).view(batch, 2, 7, height, width).permute(0, 1, 3, 4, 2)
        rows = torch.arange(height, device=level.device).to(level.dtype)
        columns = torch.arange(width, device=level.device).to(level.dtype)
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        centre = (raw[..., :2].sigmoid() + grid) * stride
        size = raw[..., 2:4].clamp(max=4.0).exp() * stride
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=-1)
        return boxes.reshape(batch, -1, 4), raw[..., 4:].sigmoid().reshape(batch, -1, 3)


def tagger() -> Model:
    return Model(
        module=randomise(Tagger()).eval(),
        inputs=(token_ids((2, 7), 50), torch.zeros(1, 2, 10)),
        input_names=("tokens", "state"),
        output_names=("scores", "last"),
        axes=({0: "batch", 1: "length"}, {1: "batch"}),
        ranges={"batch": (1, 16), "length": (2, 64)},
    )


def detector() -> Model:
    return Model(
        module=randomise(Detector()).eval(),
        inputs=(image(1, 32, 48),),
        input_names=("picture",),
        output_names=("boxes", "scores"),
        axes=({0: "batch", 2: "height", 3: "width"},),
        ranges={"batch": (1, 16), "height": (16, 256), "width": (16, 256)},
        multiples={"height": 4, "width": 4},
    )


OWN: dict[str, Callable[[], Model]] = {"lstm-gru-tagger": tagger, "detector-head": detector}
NAMES = (*_ZOO, *OWN)


def build(name: str) -> Model:
    """The small variant of a model by name; random weights with a fixed seed."""
    return OWN[name]() if name in OWN else get(name, size="small")
