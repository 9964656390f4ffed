"""Normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-6


class LayerNorm(nn.Module):
    """Layer normalisation over C at every position of `N C ...`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)


class FrameNorm(nn.Module):
    """Normalisation over C, H and W of every frame of `N C T H W`, with a weight and a bias a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        normed: Tensor = self.norm(frames.flatten(0, 1))
        return normed.view_as(frames).transpose(1, 2)


class RMSNorm(nn.Module):
    """Division by the root of the mean square over C (at least that of 1e-12) at every position of `N C ...`.

    axes: those of what it sees behind N, which the shape of its weights has.
    """

    def __init__(self, channels: int, axes: int = 4) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * (axes - 1)))

    def forward(self, x: Tensor) -> Tensor:
        gamma = self.gamma.view(-1, *[1] * (x.ndim - 2))
        normed: Tensor = F.normalize(x, dim=1) * len(gamma) ** 0.5 * gamma
        return normed
