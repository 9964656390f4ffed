"""Attention over the pixels of a frame."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers.conv import PointConv3d
from vidtok_ref.layers.norm import LayerNorm
from vidtok_ref.streaming.causal_cache import Padding


class Attention(nn.Module):
    """Single-head attention over the pixels of each frame, with a residual; never across time."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.q = PointConv3d(channels, channels, padding)
        self.k = PointConv3d(channels, channels, padding)
        self.v = PointConv3d(channels, channels, padding)
        self.proj_out = PointConv3d(channels, channels, padding)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (p(h).movedim(1, -1).flatten(2, 3) for p in (self.q, self.k, self.v))  # N T (H W) C
        attended = F.scaled_dot_product_attention(q, k, v)
        attended = attended.unflatten(2, x.shape[-2:]).movedim(-1, 1)
        projected: Tensor = self.proj_out(attended)
        return x + projected
