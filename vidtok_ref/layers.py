"""Building blocks. A causal block is `step(x, state) -> (y, new_state)`; x is float `N C T H W`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.state import State, Thread

NORM_EPS = 1e-6


def per_frame(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an image function `(N T) C H W -> (N T) C' H' W'` to every frame of `N C T H W`."""
    n, t = x.shape[0], x.shape[2]
    y = fn(x.transpose(1, 2).flatten(0, 1))
    return y.unflatten(0, (n, t)).transpose(1, 2)


def remember(state: Tensor | None, x: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Put `frames` remembered frames (zeros at first) before x; also return the frames to remember next."""
    if state is None:
        state = torch.zeros_like(x[:, :, :1]).expand(-1, -1, frames, -1, -1)
    x = torch.cat([state, x], dim=2)
    return x, x[:, :, -frames:]


class LayerNorm(nn.Module):
    """Layer normalisation over C at every position of `N C ...`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)


class CausalConv3d(nn.Module):
    """3D convolution, zero-padded in space; in time it sees only the past (kernel 3: two frames)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(c_in, c_out, 3, padding=(0, 1, 1))

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        x, state = remember(state, x, 2)
        return self.conv(x), state


class CausalConv1d(nn.Module):
    """Convolution along T, kernel 3, at every pixel on its own."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, 3)

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        x, state = remember(state, x, 2)
        h, w = x.shape[-2:]
        # Pixels side by side on one axis: the same sums as a Conv1d per pixel, without reordering memory.
        y = F.conv2d(x.flatten(3), self.conv.weight.unsqueeze(-1), self.conv.bias)
        return y.unflatten(3, (h, w)), state


class PointConv3d(nn.Module):
    """1x1x1 convolution; the released names wrap it, too."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class FrameConv2d(nn.Conv2d):
    """2D convolution of every frame of `N C T H W`; its weights carry the plain released names."""

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(super().forward, x)


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
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.nin_shortcut is None else self.nin_shortcut(x))


class CausalBlock(nn.Module):
    """Residual block of two causal convolutions (`CausalConv1d` or `CausalConv3d`)."""

    def __init__(self, channels: int, conv: type[CausalConv1d] | type[CausalConv3d]) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.conv1 = conv(channels, channels)
        self.norm2 = LayerNorm(channels)
        self.conv2 = conv(channels, channels)

    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        run = Thread(state)
        h = run("conv1", self.conv1, F.silu(self.norm1(x)))
        h = run("conv2", self.conv2, F.silu(self.norm2(h)))
        return x + h, run.new


class Attention(nn.Module):
    """Single-head attention over the pixels of each frame, with a residual; never across time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.q = PointConv3d(channels, channels)
        self.k = PointConv3d(channels, channels)
        self.v = PointConv3d(channels, channels)
        self.proj_out = PointConv3d(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (p(h).movedim(1, -1).flatten(2, 3) for p in (self.q, self.k, self.v))  # N T (H W) C
        attended = F.scaled_dot_product_attention(q, k, v)
        attended = attended.unflatten(2, x.shape[-2:]).movedim(-1, 1)
        return x + self.proj_out(attended)


class SpatialDown(nn.Module):
    """Halve H and W: 3x3 convolution of stride 2, padded on the right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(lambda frame: self.conv(F.pad(frame, (0, 1, 0, 1))), x)


class SpatialUp(nn.Module):
    """Double H and W: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(lambda frame: self.conv(F.interpolate(frame, scale_factor=2.0)), x)


def blend(mix_factor: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """AlphaBlender: `alpha * a + (1 - alpha) * b` with `alpha = sigmoid(mix_factor)`."""
    alpha = torch.sigmoid(mix_factor)
    return alpha * a + (1 - alpha) * b


class TemporalDown(nn.Module):
    """Halve T: average pooling blended with a strided 3x3x3 convolution; T must be even, one frame is kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = nn.Module()
        self.conv.conv = nn.Conv3d(channels, channels, 3, stride=(2, 1, 1), padding=(0, 1, 1))

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        x, state = remember(state, x, 1)
        pooled = (x[:, :, 0:-1:2] + x[:, :, 1::2] + x[:, :, 2::2]) / 3
        conv: Any = self.conv.conv
        return blend(self.mix_factor, pooled, conv(x)), state


class TemporalUp(nn.Module):
    """Double T: nearest neighbour, blended with a causal 3x3x3 convolution of itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([2.0]))
        self.conv = CausalConv3d(channels, channels)

    def step(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        run = Thread(state)
        x = x.repeat_interleave(2, dim=2)
        return blend(self.mix_factor, x, run("conv", self.conv, x)), run.new
