"""Wan's encoder and decoder; streams as its StreamSpec says equal the release's calls of 1, 4, 4 ... frames.

Every call takes whole latents. In the first one only the last frame of the first latent is of the clip; the frames
before it are dummies, of which no layer that looks along T sees anything.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from vidtok_ref.families.wan.config import WanConfig
from vidtok_ref.layers.attention import JointAttention
from vidtok_ref.layers.blocks import TimeBlock
from vidtok_ref.layers.conv import TimeConv3d
from vidtok_ref.layers.norm import RMSNorm
from vidtok_ref.layers.resample import FirstFrameDown, FirstFrameUp, SpatialDown, SpatialUp
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.streaming.causal_cache import Padding
from vidtok_ref.streaming.parts import GLOBAL, LOCAL, Coder
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope
from vidtok_ref.tokenizer import VideoTokenizer


def conv3d(c_in: int, c_out: int, frames: int) -> TimeConv3d:
    """A causal 3x3x3 convolution where a latent has so many frames, of which the first call's are dummies but one."""
    return TimeConv3d(c_in, c_out, Padding.ZEROS, dummies=frames - 1)


def residual(c_in: int, c_out: int, frames: int) -> TimeBlock:
    """A residual block where a latent has so many frames."""
    return TimeBlock(c_in, c_out, partial(conv3d, frames=frames), RMSNorm, lambda a, b: nn.Conv3d(a, b, 1))


class Chain(nn.Module):
    """Children that run one after the other."""

    def step(self, x: Tensor, state: State | None = None, call: Call | None = None) -> tuple[Tensor, State]:
        """Run every child, by its name, on what the one before gave."""
        run = StateScope(state, call)
        for name, child in self.named_children():
            x = run(name, child, x)
        return x, run.new


class Blocks(Chain):
    """A list of blocks under the names 0, 1 ..."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        for i, block in enumerate(blocks):
            self.add_module(str(i), block)


class Down(Chain):
    """Halve H and W and, where a latent has so many frames, T."""

    def __init__(self, channels: int, frames: int | None) -> None:
        super().__init__()
        self.resample = SpatialDown(channels)
        if frames is not None:
            self.time = FirstFrameDown(channels, frames - 1)


class Up(Chain):
    """Double T, where a latent has so many frames, and H and W, with half of the channels."""

    def __init__(self, channels: int, frames: int | None) -> None:
        super().__init__()
        if frames is not None:
            self.time = FirstFrameUp(channels, frames - 1)
        self.resample = SpatialUp(channels, channels // 2)


class WanMiddle(Chain):
    """The deepest part: block, attention, block."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.block_1 = residual(channels, channels, frames)
        self.attention = JointAttention(channels)
        self.block_2 = residual(channels, channels, frames)


class UpBlock(Chain):
    """Blocks of one resolution and the way out of it."""

    def __init__(self, blocks: list[nn.Module], up: nn.Module | None) -> None:
        super().__init__()
        self.resnets = Blocks(blocks)
        if up is not None:
            self.upsampler = up


class Head(Chain):
    """The last norm and convolution."""

    def __init__(self, c_in: int, c_out: int, frames: int) -> None:
        super().__init__()
        self.norm = RMSNorm(c_in)
        self.silu = nn.SiLU()
        self.conv = conv3d(c_in, c_out, frames)


class WanEncoder(Coder):
    """Video `N 3 T H W`, T a multiple of f, to mean and log-variance `N 2z T/f H/s W/s`."""

    def __init__(self, c: WanConfig) -> None:
        super().__init__()
        frames, width, blocks = c.time_factor, c.ch, list[nn.Module]()
        self.conv_in = conv3d(3, width, frames)
        for i, mult in enumerate(c.ch_mult):
            for _ in range(c.num_res_blocks):
                blocks.append(residual(width, c.ch * mult, frames))
                width = c.ch * mult
            if i < len(c.temporal_down):
                halves = c.temporal_down[i]
                blocks.append(Down(width, frames if halves else None))
                frames //= 1 + halves
        self.down_blocks = Blocks(blocks)
        self.mid_block = WanMiddle(width, frames)
        self.head = Head(width, 2 * c.z_channels, frames)
        self.quant_conv = nn.Conv3d(2 * c.z_channels, 2 * c.z_channels, 1)
        self.parts = {LOCAL: ["conv_in", "down_blocks"], GLOBAL: ["mid_block", "head", "quant_conv"]}


class WanDecoder(Coder):
    """Latent `N z t h w` to video `N 3 t*f h*s w*s`, whose first f - 1 frames are dummies."""

    def __init__(self, c: WanConfig) -> None:
        super().__init__()
        frames, width, blocks = 1, c.ch * c.ch_mult[-1], list[nn.Module]()
        self.post_quant_conv = nn.Conv3d(c.z_channels, c.z_channels, 1)
        self.conv_in = conv3d(c.z_channels, width, frames)
        self.mid_block = WanMiddle(width, frames)
        doubles = [*reversed(c.temporal_down), None]
        for mult, time in zip(reversed(c.ch_mult), doubles, strict=True):
            level: list[nn.Module] = []
            for _ in range(c.num_res_blocks + 1):
                level.append(residual(width, c.ch * mult, frames))
                width = c.ch * mult
            up = None if time is None else Up(width, frames if time else None)
            blocks.append(UpBlock(level, up))
            frames *= 1 + bool(time)
            width = width if up is None else width // 2
        self.up_blocks = Blocks(blocks)
        self.head = Head(width, 3, frames)
        self.parts = {GLOBAL: ["post_quant_conv", "conv_in", "mid_block"], LOCAL: ["up_blocks", "head"]}


class Wan(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: WanConfig

    def __init__(self, config: WanConfig) -> None:
        super().__init__(config)
        self.encoder = WanEncoder(config)
        self.decoder = WanDecoder(config)
        self.regularization = DiagonalGaussian()
