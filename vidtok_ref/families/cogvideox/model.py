"""CogVideoX's encoder and decoder, in the release's calls of 9, 8, 8 ... frames and 3, 2, 2 ... latents.

A call of an odd number begins a clip, whose first latent stands for one frame; a call of an even number goes on.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.families.cogvideox.config import HALVINGS, TIME_FACTOR, CogVideoXConfig
from vidtok_ref.layers.blocks import ResidualBlock, TimeBlock
from vidtok_ref.layers.conv import TimeConv3d
from vidtok_ref.layers.norm import NORM_EPS, Guided, GuidedNorm
from vidtok_ref.layers.resample import PairMean, PairRepeat, SpatialDown, SpatialUp, WholeLatents
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.streaming.causal_cache import Padding
from vidtok_ref.streaming.parts import GLOBAL, Coder
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope
from vidtok_ref.tokenizer import VideoTokenizer


def conv3d(c_in: int, c_out: int) -> TimeConv3d:
    """A causal 3x3x3 convolution that sees copies of its first frame before it."""
    return TimeConv3d(c_in, c_out, Padding.FIRST_FRAME)


def point(c_in: int, c_out: int) -> nn.Conv3d:
    """A 1x1x1 convolution."""
    return nn.Conv3d(c_in, c_out, 1)


class GuidedConv(TimeConv3d):
    """The decoder's first convolution: gives, beside its result, the latents that it sees."""

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Guided, Tensor | State]:  # type: ignore[override]
        y, remembered = super().step(x, state, call)
        return Guided(y, x), remembered


class GuidedBlock(ResidualBlock):
    """Residual block of two causal convolutions behind norms that see the latents, too."""

    def step(self, x: Guided, state: State | None, call: Call | None) -> tuple[Guided, State]:
        run = StateScope(state, call)
        h = run("conv1", self.conv1, F.silu(self.norm1(x)))
        h = run("conv2", self.conv2, F.silu(self.norm2(x.with_frames(h))))
        return x.with_frames(h + self.beside(x.frames)), run.new


class PairedDown(nn.Module):
    """Halve T, if asked to, then H and W."""

    def __init__(self, channels: int, halves_time: bool) -> None:
        super().__init__()
        self.time = PairMean() if halves_time else None
        self.space = SpatialDown(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.space(x if self.time is None else self.time(x))
        return y


class PairedUp(nn.Module):
    """Double H and W, then, if asked to, T, which costs less than before the convolution and gives the same."""

    def __init__(self, channels: int, doubles_time: bool) -> None:
        super().__init__()
        self.space = SpatialUp(channels, channels)
        self.time = PairRepeat() if doubles_time else None

    def forward(self, x: Guided) -> Guided:
        y = self.space(x.frames)
        return x.with_frames(y if self.time is None else self.time(y, x.latent.shape[2]))


class BlockList(nn.Module):
    """Residual blocks of one resolution."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(blocks)


class CogVideoXEncoder(Coder):
    """Video `N 3 T H W` to mean and log-variance `N 2z T/4 H/s W/s`, T of a first call 1 or 9, of a later one 8."""

    def __init__(self, c: CogVideoXConfig) -> None:
        super().__init__()
        block = partial(TimeBlock, conv=conv3d, norm=partial(nn.GroupNorm, c.groups, eps=NORM_EPS), shortcut=point)
        width, paths, levels = c.channels[0], ["conv_in"], list[nn.Module]()
        self.conv_in = conv3d(3, width)
        for i, wider in enumerate(c.channels):
            level = BlockList([block(width if j == 0 else wider, wider) for j in range(c.num_res_blocks)])
            paths += [f"down_blocks.{i}.resnets.{j}" for j in range(c.num_res_blocks)]
            if i < len(c.channels) - 1:
                level.downsampler = PairedDown(wider, i < HALVINGS)
                paths.append(f"down_blocks.{i}.downsampler")
            levels.append(level)
            width = wider
        self.down_blocks = nn.ModuleList(levels)
        self.mid_block = BlockList([block(width, width) for _ in range(2)])
        self.norm_out = nn.GroupNorm(c.groups, width, eps=NORM_EPS)
        self.silu = nn.SiLU()
        self.conv_out = conv3d(width, 2 * c.z_channels)
        self.parts = {
            GLOBAL: [*paths, "mid_block.resnets.0", "mid_block.resnets.1", "norm_out", "silu", "conv_out"],
        }


class CogVideoXDecoder(Coder):
    """Latent `N z t h w` to video `N 3 4t h*s w*s`; where t is odd, its first three frames are dummies."""

    def __init__(self, c: CogVideoXConfig) -> None:
        super().__init__()
        width, paths, levels = c.channels[-1], ["conv_in"], list[nn.Module]()

        def norm(channels: int, time: int, space: int) -> GuidedNorm:
            return GuidedNorm(channels, c.z_channels, c.groups, time, space)

        def block(c_in: int, c_out: int, time: int, space: int) -> GuidedBlock:
            return GuidedBlock(c_in, c_out, conv3d, partial(norm, time=time, space=space), point)

        self.conv_in = GuidedConv(c.z_channels, width, Padding.FIRST_FRAME)
        self.mid_block = BlockList([block(width, width, 1, 1) for _ in range(2)])
        paths += ["mid_block.resnets.0", "mid_block.resnets.1"]
        time, space = 1, 1
        for i, narrower in enumerate(reversed(c.channels)):
            blocks = range(c.num_res_blocks + 1)
            level = BlockList([block(width if j == 0 else narrower, narrower, time, space) for j in blocks])
            paths += [f"up_blocks.{i}.resnets.{j}" for j in blocks]
            if i < len(c.channels) - 1:
                level.upsampler = PairedUp(narrower, i < HALVINGS)
                paths.append(f"up_blocks.{i}.upsampler")
                time, space = time * (2 if i < HALVINGS else 1), 2 * space
            levels.append(level)
            width = narrower
        self.up_blocks = nn.ModuleList(levels)
        self.norm_out = norm(width, time, space)
        self.silu = nn.SiLU()
        self.conv_out = conv3d(width, 3)
        self.whole = WholeLatents(TIME_FACTOR)
        self.parts = {GLOBAL: [*paths, "norm_out", "silu", "conv_out", "whole"]}


class CogVideoX(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: CogVideoXConfig

    def __init__(self, config: CogVideoXConfig) -> None:
        super().__init__(config)
        self.encoder = CogVideoXEncoder(config)
        self.decoder = CogVideoXDecoder(config)
        self.regularization = DiagonalGaussian()
