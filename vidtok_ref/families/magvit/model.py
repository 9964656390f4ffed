"""Open-MAGVIT2's encoder and decoder, which take a window of frames in one call and remember nothing."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from vidtok_ref.families.magvit.config import MagvitConfig
from vidtok_ref.layers.blocks import StatelessBlock
from vidtok_ref.layers.conv import Beyond, ClipConv3d
from vidtok_ref.layers.front import Dummies, WithoutDummies
from vidtok_ref.layers.norm import NORM_EPS, AdaptiveNorm, Guided
from vidtok_ref.layers.resample import ShuffledUp
from vidtok_ref.regularizers.channel import LookupFreeQuantizer
from vidtok_ref.streaming.parts import GLOBAL, Coder
from vidtok_ref.tokenizer import VideoTokenizer

conv3d = partial(ClipConv3d, beyond=Beyond(2, copies=False))


def blocks(c: MagvitConfig, c_in: int, c_out: int) -> nn.Sequential:
    """Residual blocks of one resolution."""
    conv, point = partial(conv3d, bias=False), partial(nn.Conv3d, kernel_size=1, bias=False)
    norm = partial(nn.GroupNorm, c.groups, eps=NORM_EPS)
    widths = [c_in, *[c_out] * c.num_res_blocks]
    return nn.Sequential(*(StatelessBlock(a, b, conv, norm, point) for a, b in pairwise(widths)))


class MagvitEncoder(Coder):
    """Video `N 3 T H W`, T a multiple of f, to `N z T/f H/s W/s`; it does not look at the first f - 1 frames."""

    def __init__(self, c: MagvitConfig) -> None:
        super().__init__()
        self.front = WithoutDummies(c.time_factor - 1)
        self.conv_in = conv3d(3, c.ch, bias=False)
        width, down = c.ch, nn.Sequential()
        for mult, halves in zip(c.ch_mult, [*c.halves_time, None], strict=True):
            level: OrderedDict[str, nn.Module] = OrderedDict(block=blocks(c, width, c.ch * mult))
            width = c.ch * mult
            if halves is not None:
                level["downsample"] = conv3d(width, width, stride=(1 + halves, 2, 2))
            down.append(nn.Sequential(level))
        self.down = down
        self.mid_block = blocks(c, width, width)
        self.norm_out = nn.GroupNorm(c.groups, width, eps=NORM_EPS)
        self.silu = nn.SiLU()
        self.conv_out = nn.Conv3d(width, c.z_channels, 1)
        self.parts = {GLOBAL: ["front", "conv_in", "down", "mid_block", "norm_out", "silu", "conv_out"]}


class GuidedStart(nn.Module):
    """The decoder's first convolution: gives, beside its result, the latents that it sees."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = conv3d(c_in, c_out)

    def forward(self, x: Tensor) -> Guided:
        return Guided(self.conv(x), x)


class GuidedLevel(nn.Module):
    """Blocks of one resolution, perhaps behind a norm that sees the latents, too, and the way out of it."""

    def __init__(self, block: nn.Sequential, adaptive: AdaptiveNorm | None = None) -> None:
        super().__init__()
        self.adaptive = adaptive
        self.block = block
        self.upsample: ShuffledUp | None = None

    def forward(self, x: Guided) -> Guided:
        y = self.block(x.frames if self.adaptive is None else self.adaptive(x))
        return x.with_frames(y if self.upsample is None else self.upsample(y))


class Frames(nn.Module):
    """The end of what sees latents, too."""

    def forward(self, x: Guided) -> Tensor:
        return x.frames


class MagvitDecoder(Coder):
    """Latent `N z t h w` to video `N 3 f*t s*h s*w`, whose first f - 1 frames are copies of the next."""

    def __init__(self, c: MagvitConfig) -> None:
        super().__init__()
        width, levels = c.ch * c.ch_mult[-1], OrderedDict[str, nn.Module]()
        self.conv_in = GuidedStart(c.z_channels, width)
        self.mid_block = GuidedLevel(blocks(c, width, width))
        for i, mult in reversed(list(enumerate(c.ch_mult))):
            level = GuidedLevel(blocks(c, width, c.ch * mult), AdaptiveNorm(width, c.z_channels, c.groups))
            width = c.ch * mult
            if i:
                time = 1 + c.halves_time[i - 1]
                level.upsample = ShuffledUp(conv3d(width, 4 * time * width), time)
            levels[str(i)] = level
        self.up = nn.Sequential(levels)
        self.frames = Frames()
        self.norm_out = nn.GroupNorm(c.groups, width, eps=NORM_EPS)
        self.silu = nn.SiLU()
        self.conv_out = conv3d(width, 3)
        self.front = Dummies(c.time_factor - 1)
        self.parts = {
            GLOBAL: ["conv_in", "mid_block", "up", "frames", "norm_out", "silu", "conv_out", "front"],
        }


class Magvit(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: MagvitConfig

    def __init__(self, config: MagvitConfig) -> None:
        super().__init__(config)
        self.encoder = MagvitEncoder(config)
        self.decoder = MagvitDecoder(config)
        self.regularization = LookupFreeQuantizer(config.z_channels)
