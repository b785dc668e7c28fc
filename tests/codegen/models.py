"""A small module whose compiled form several tests look at."""

from __future__ import annotations

import torch
from torch import nn


class SmallNet(nn.Module):
    """A convolution, an activation and a softmax; also returns its input and a weight as they are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("anchors", torch.arange(6.0))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(self.conv(image))
        return y, torch.softmax(y.flatten(2), -1), image, image.flatten(1), self.anchors
