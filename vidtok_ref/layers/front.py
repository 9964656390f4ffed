"""Frames in front of a clip that fill its first latent, for networks in which that latent is one frame's alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WithoutDummies(nn.Module):
    """Without the first frames of `N C T H W`."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.frames :]


class Dummies(nn.Module):
    """Copies of the first frame of `N C T H W` in front of it."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :, :1].expand(-1, -1, self.frames, -1, -1), x], dim=2)
