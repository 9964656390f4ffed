"""Residual blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers.conv import FrameConv2d
from vidtok_ref.layers.norm import LayerNorm
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope

Conv = Callable[[int, int], nn.Module]  # a convolution from so many channels to so many


def frame_point(c_in: int, c_out: int) -> nn.Module:
    """A 1x1 convolution inside each frame."""
    return FrameConv2d(c_in, c_out, 1)


class ResidualBlock(nn.Module):
    """Two convolutions, each behind a normalisation and SiLU, beside a shortcut.

    only_sees: of a normalisation the one layer whose output it sees, and that nothing else sees.
    """

    only_sees: ClassVar[dict[str, str]] = {"norm2": "conv1"}

    def __init__(
        self,
        c_in: int,
        c_out: int,
        conv: Conv,
        norm: Callable[[int], nn.Module] = LayerNorm,
        shortcut: Conv = frame_point,
    ) -> None:
        super().__init__()
        self.norm1 = norm(c_in)
        self.conv1: Any = conv(c_in, c_out)
        self.norm2 = norm(c_out)
        self.conv2: Any = conv(c_out, c_out)
        self.nin_shortcut = shortcut(c_in, c_out) if c_in != c_out else None

    def beside(self, x: Tensor) -> Tensor:
        """What is added to the convolutions' result."""
        shortcut: Tensor = x if self.nin_shortcut is None else self.nin_shortcut(x)
        return shortcut


class StatelessBlock(ResidualBlock):
    """Residual block of two convolutions that remember nothing."""

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + self.beside(x)


class SpatialBlock(StatelessBlock):
    """Residual block of 3x3 convolutions inside each frame."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, lambda a, b: FrameConv2d(a, b, 3, padding=1))


class TimeBlock(ResidualBlock):
    """Residual block of two convolutions that look along T."""

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        h = run("conv1", self.conv1, F.silu(self.norm1(x)))
        h = run("conv2", self.conv2, F.silu(self.norm2(h)))
        return h + self.beside(x), run.new
