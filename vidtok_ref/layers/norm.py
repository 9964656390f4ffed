"""Normalisation."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers.conv import PointConv3d, per_frame
from vidtok_ref.layers.resample import repeated
from vidtok_ref.streaming.causal_cache import Padding

NORM_EPS = 1e-6


class LayerNorm(nn.Module):
    """Layer normalisation over C at every position of `N C ...`."""

    def __init__(self, channels: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=eps)

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


class FrameGroupNorm(nn.GroupNorm):
    """Group normalisation of every frame of `N C T H W` on its own."""

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(super().forward, x)


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


class UnitNorm(nn.Module):
    """Division by the length (at least 1e-12) of the C numbers at every position of `N C ...`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


class Guided(NamedTuple):
    """What layers of a decoder see: frames `N C T H W`, and the latents `N z t h w` that the call decodes."""

    frames: Tensor
    latent: Tensor

    def with_frames(self, frames: Tensor) -> Guided:
        """The same latents beside other frames."""
        return Guided(frames, self.latent)


def stretched(x: Tensor, frames: Tensor, time: int, space: int) -> Tensor:
    """`N C t h w` by nearest neighbours to the size of frames; time, space: how often a value is there.

    Where frames of the first latent are missing, it is there the less often.
    """
    x = repeated(x, frames.shape[2], time)
    return x if space == 1 else F.interpolate(x, scale_factor=(1.0, float(space), float(space)))


class GuidedNorm(nn.Module):
    """Group normalisation over all frames and pixels of a call, scaled and moved by what the latents say.

    time, space: frames and rows a latent has here.
    """

    def __init__(self, channels: int, latent_channels: int, groups: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.norm_layer = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.conv_y = PointConv3d(latent_channels, channels, Padding.FIRST_FRAME)
        self.conv_b = PointConv3d(latent_channels, channels, Padding.FIRST_FRAME)

    def forward(self, x: Guided) -> Tensor:
        scale, shift = (
            stretched(conv(x.latent), x.frames, self.time, self.space) for conv in (self.conv_y, self.conv_b)
        )
        normed: Tensor = self.norm_layer(x.frames) * scale + shift
        return normed


class AdaptiveNorm(nn.Module):
    """Group normalisation over all frames and pixels of a call, scaled and moved by the latents' spread and mean."""

    def __init__(self, channels: int, latent_channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPS, affine=False)
        self.gamma = nn.Linear(latent_channels, channels)
        self.beta = nn.Linear(latent_channels, channels)

    def guide(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and offset, `N C 1 1 1` each, of latents `N z t h w`, whose variance is that of a sample."""
        mean = latent.mean((2, 3, 4), keepdim=True)
        squares = ((latent - mean) ** 2).sum((2, 3, 4))
        others = torch.ones_like(latent[:, :1]).sum((2, 3, 4)) - 1
        spread = torch.sqrt(squares / others.clamp(min=1) + NORM_EPS)  # a single latent has none
        return self.gamma(spread)[:, :, None, None, None], self.beta(mean.flatten(1))[:, :, None, None, None]

    def forward(self, x: Guided) -> Tensor:
        gain, offset = self.guide(x.latent)
        normed: Tensor = self.norm(x.frames) * gain + offset
        return normed
