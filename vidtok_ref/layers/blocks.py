"""Residual blocks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers.conv import FactorizedConv, FrameConv2d, TimeConv1d, TimeConv3d
from vidtok_ref.layers.norm import LayerNorm
from vidtok_ref.streaming.causal_cache import Padding
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope


class SpatialBlock(nn.Module):
    """Residual block of 3x3 convolutions inside each frame; stateless."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(c_in)
        self.conv1 = FrameConv2d(c_in, c_out, 3, padding=1)
        self.norm2 = LayerNorm(c_out)
        self.conv2 = FrameConv2d(c_out, c_out, 3, padding=1)
        self.nin_shortcut = FrameConv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        shortcut: Tensor = x if self.nin_shortcut is None else self.nin_shortcut(x)
        return h + shortcut


class TimeBlock(nn.Module):
    """Residual block of two convolutions that look along T."""

    def __init__(
        self, c_in: int, c_out: int, padding: Padding, conv: type[TimeConv1d] | type[TimeConv3d] | type[FactorizedConv]
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(c_in)
        self.conv1 = conv(c_in, c_out, padding)
        self.norm2 = LayerNorm(c_out)
        self.conv2 = conv(c_out, c_out, padding)
        self.nin_shortcut = FrameConv2d(c_in, c_out, 1) if c_in != c_out else None

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        h = run("conv1", self.conv1, F.silu(self.norm1(x)))
        h = run("conv2", self.conv2, F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x)), run.new
