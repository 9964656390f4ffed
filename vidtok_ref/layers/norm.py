"""Normalisation."""

from __future__ import annotations

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
