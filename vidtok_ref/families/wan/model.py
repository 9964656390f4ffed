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
from vidtok_ref.layers.patches import FromChannels, ToChannels, averages, copies, patches
from vidtok_ref.layers.resample import FirstFrameDown, FirstFrameUp, SpatialDown, SpatialUp
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.streaming.causal_cache import Padding, without_first
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

    def paths(self, name: str) -> list[str]:
        """Dotted paths of the blocks below the module that has them under this name."""
        return [f"{name}.{i}" for i, _ in self.named_children()]


class Down(Chain):
    """Halve H and W and, where a latent has so many frames, T."""

    def __init__(self, channels: int, frames: int | None) -> None:
        super().__init__()
        self.resample = SpatialDown(channels)
        if frames is not None:
            self.time = FirstFrameDown(channels, frames - 1)


class Up(Chain):
    """Double T, where a latent has so many frames, and H and W."""

    def __init__(self, channels: int, c_out: int, frames: int | None) -> None:
        super().__init__()
        if frames is not None:
            self.time = FirstFrameUp(channels, frames - 1)
        self.resample = SpatialUp(channels, c_out)


class WanMiddle(Chain):
    """The deepest part: block, attention, block."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.block_1 = residual(channels, channels, frames)
        self.attention = JointAttention(channels)
        self.block_2 = residual(channels, channels, frames)


class AverageShortcut(nn.Module):
    """Means over blocks of frames and pixels, where a latent has so many frames; dummies are zeros to it."""

    def __init__(self, c_in: int, c_out: int, time: int, space: int, frames: int) -> None:
        super().__init__()
        self.average = averages(c_in, c_out, time, space)
        self.dummies = frames - 1 if time > 1 else 0

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        return self.average(without_first(x, self.dummies, state is None, call)), {}


class WanLevel(nn.Module):
    """Blocks of one resolution and the way out of it; what goes in is added by way of a shortcut, if there is one."""

    def __init__(self, blocks: list[nn.Module], shortcut: nn.Module | None, **way_out: nn.Module) -> None:
        super().__init__()
        self.resnets = Blocks(blocks)
        for name, module in way_out.items():
            self.add_module(name, module)
        self.shortcut = shortcut

    def step(self, x: Tensor, state: State | None = None, call: Call | None = None) -> tuple[Tensor, State]:
        """Run the blocks and what is behind them."""
        run, y = StateScope(state, call), x
        for name, child in self.named_children():
            if child is not self.shortcut:
                y = run(name, child, y)
        return y if self.shortcut is None else y + run("shortcut", self.shortcut, x), run.new


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
        if c.patch > 1:
            self.patch = ToChannels(*patches(c.patch))
        self.conv_in = conv3d(3 * c.patch**2, width, frames)
        for mult, halves in zip(c.ch_mult, [*c.temporal_down, None], strict=True):
            c_in, level = width, list[nn.Module]()
            for _ in range(c.num_res_blocks):
                level.append(residual(width, c.ch * mult, frames))
                width = c.ch * mult
            down = None if halves is None else Down(width, frames if halves else None)
            if c.shortcuts:
                time, space = 1 + bool(halves), 1 if down is None else 2
                shortcut = AverageShortcut(c_in, width, time, space, frames)
                blocks.append(WanLevel(level, shortcut, **({} if down is None else {"downsampler": down})))
            else:
                blocks += level if down is None else [*level, down]
            frames //= 1 + bool(halves)
        self.down_blocks = Blocks(blocks)
        self.mid_block = WanMiddle(width, frames)
        self.head = Head(width, 2 * c.z_channels, frames)
        self.quant_conv = nn.Conv3d(2 * c.z_channels, 2 * c.z_channels, 1)
        first = ["patch"] if c.patch > 1 else []
        levels = self.down_blocks.paths("down_blocks")
        self.parts = {LOCAL: [*first, "conv_in", *levels], GLOBAL: ["mid_block", "head", "quant_conv"]}


class WanDecoder(Coder):
    """Latent `N z t h w` to video `N 3 t*f h*s w*s`, whose first f - 1 frames are dummies."""

    def __init__(self, c: WanConfig) -> None:
        super().__init__()
        frames, width, blocks = 1, c.decoder_width * c.ch_mult[-1], list[nn.Module]()
        self.post_quant_conv = nn.Conv3d(c.z_channels, c.z_channels, 1)
        self.conv_in = conv3d(c.z_channels, width, frames)
        self.mid_block = WanMiddle(width, frames)
        doubles = [*reversed(c.temporal_down), None]
        for mult, time in zip(reversed(c.ch_mult), doubles, strict=True):
            c_in, level = width, list[nn.Module]()
            for _ in range(c.num_res_blocks + 1):
                level.append(residual(width, c.decoder_width * mult, frames))
                width = c.decoder_width * mult
            if time is None:
                blocks.append(WanLevel(level, None))
                continue
            c_out = width if c.shortcuts else width // 2
            shortcut = copies(c_in, c_out, 1 + time, 2) if c.shortcuts else None
            blocks.append(WanLevel(level, shortcut, upsampler=Up(width, c_out, frames if time else None)))
            frames *= 1 + time
            width = c_out
        self.up_blocks = Blocks(blocks)
        self.head = Head(width, 3 * c.patch**2, frames)
        last = ["head"]
        if c.patch > 1:
            self.unpatch = FromChannels(*patches(c.patch))
            last.append("unpatch")
        levels = self.up_blocks.paths("up_blocks")
        self.parts = {GLOBAL: ["post_quant_conv", "conv_in", "mid_block"], LOCAL: [*levels, *last]}


class Wan(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: WanConfig

    def __init__(self, config: WanConfig) -> None:
        super().__init__(config)
        self.encoder = WanEncoder(config)
        self.decoder = WanDecoder(config)
        self.regularization = DiagonalGaussian()
