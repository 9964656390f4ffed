"""Frames beside those of a clip that fill a latent: in front, where the first one is one frame's alone, or behind."""

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


class FilledUp(nn.Module):
    """Copies of the last frame of `N C T H W` behind it, so that T is a multiple of `factor`."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[2]
        filled = (frames + self.factor - 1) // self.factor * self.factor
        return x.index_select(2, torch.arange(filled, device=x.device).clamp(max=frames - 1))
