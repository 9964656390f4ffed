"""Open-Sora-Plan's encoder and decoder, which take a window of frames in one call and remember nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from vidtok_ref.families.open_sora_plan.config import FLAT_LEVELS, HALVES_TIME, OpenSoraPlanConfig
from vidtok_ref.families.shared_windows import TIME_FACTOR
from vidtok_ref.layers.attention import SplitAttention
from vidtok_ref.layers.blocks import StatelessBlock
from vidtok_ref.layers.conv import Beyond, ClipConv3d, FrameConv2d
from vidtok_ref.layers.norm import NORM_EPS, FrameGroupNorm
from vidtok_ref.layers.resample import LinearUp, NearestUp3d, SpatialDown, WholeLatents
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.streaming.parts import GLOBAL, Coder
from vidtok_ref.tokenizer import VideoTokenizer

conv3d = partial(ClipConv3d, beyond=Beyond(2))


def point(c_in: int, c_out: int) -> nn.Conv3d:
    """A 1x1x1 convolution."""
    return nn.Conv3d(c_in, c_out, 1)


def norm_of(c: OpenSoraPlanConfig) -> Callable[[int], nn.Module]:
    """A norm that sees all frames of a window."""
    return partial(nn.GroupNorm, c.groups, eps=NORM_EPS)


def block(c: OpenSoraPlanConfig, c_in: int, c_out: int, *, flat: bool = False) -> StatelessBlock:
    """A residual block; flat: it sees one frame each."""
    if flat:
        conv = partial(FrameConv2d, kernel_size=3, padding=1)
        return StatelessBlock(c_in, c_out, conv, partial(FrameGroupNorm, c.groups, eps=NORM_EPS))
    return StatelessBlock(c_in, c_out, conv3d, norm_of(c), point)


def level(
    c: OpenSoraPlanConfig, c_in: int, c_out: int, blocks: int, way_out: Mapping[str, nn.Module], *, flat: bool = False
) -> nn.Sequential:
    """Blocks of one resolution and the way out of it."""
    chain = nn.Sequential(*(block(c, c_in if j == 0 else c_out, c_out, flat=flat) for j in range(blocks)))
    return nn.Sequential(OrderedDict(block=chain, **way_out))


def middle(c: OpenSoraPlanConfig, channels: int) -> nn.Sequential:
    """The deepest part: block, attention over the pixels of a frame, block."""
    block_1, block_2 = (block(c, channels, channels) for _ in range(2))
    attention = SplitAttention(channels, point, norm_of(c))
    return nn.Sequential(OrderedDict(block_1=block_1, attn_1=attention, block_2=block_2))


class OpenSoraPlanEncoder(Coder):
    """Video `N 3 1+4k H W` to mean and log-variance `N 2z 1+k H/8 W/8`."""

    def __init__(self, c: OpenSoraPlanConfig) -> None:
        super().__init__()
        width, levels = c.ch, list[nn.Module]()
        self.conv_in = FrameConv2d(3, width, 3, padding=1)
        for i, wider in enumerate(c.ch * mult for mult in c.ch_mult):
            way_out: dict[str, nn.Module] = {}
            if i < len(HALVES_TIME):
                halves = HALVES_TIME[i]
                way_out["downsample"] = (
                    conv3d(wider, wider, stride=(2, 2, 2), centred=False) if halves else SpatialDown(wider)
                )
            levels.append(level(c, width, wider, c.num_res_blocks, way_out, flat=i < FLAT_LEVELS))
            width = wider
        self.down = nn.Sequential(*levels)
        self.mid = middle(c, width)
        self.norm_out = norm_of(c)(width)
        self.silu = nn.SiLU()
        self.conv_out = conv3d(width, 2 * c.z_channels)
        self.quant_conv = point(2 * c.z_channels, 2 * c.z_channels)
        self.parts = {GLOBAL: ["conv_in", "down", "mid", "norm_out", "silu", "conv_out", "quant_conv"]}


class OpenSoraPlanDecoder(Coder):
    """Latent `N z 1+k h w` to video `N 3 4+4k 8h 8w`, whose first three frames are copies of its fourth."""

    def __init__(self, c: OpenSoraPlanConfig) -> None:
        super().__init__()
        widths = [c.ch * mult for mult in c.ch_mult]
        width, levels = widths[-1], OrderedDict[str, nn.Module]()
        self.post_quant_conv = point(c.z_channels, c.z_channels)
        self.conv_in = conv3d(c.z_channels, width)
        self.mid = middle(c, width)
        for i, narrower in reversed(list(enumerate(widths))):
            way_out: dict[str, nn.Module] = {}
            if i > 0:
                if HALVES_TIME[i - 1]:
                    way_out["upsample"] = LinearUp(conv3d(narrower, narrower))
                else:
                    way_out["upsample"] = NearestUp3d(ClipConv3d(narrower, narrower, Beyond(0), time=1))
            levels[str(i)] = level(c, width, narrower, c.num_res_blocks + 1, way_out)
            width = narrower
        self.up = nn.Sequential(levels)
        self.norm_out = norm_of(c)(width)
        self.silu = nn.SiLU()
        self.conv_out = conv3d(width, 3)
        self.whole = WholeLatents(TIME_FACTOR)
        self.parts = {GLOBAL: ["post_quant_conv", "conv_in", "mid", "up", "norm_out", "silu", "conv_out", "whole"]}


class OpenSoraPlan(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: OpenSoraPlanConfig

    def __init__(self, config: OpenSoraPlanConfig) -> None:
        super().__init__(config)
        self.encoder = OpenSoraPlanEncoder(config)
        self.decoder = OpenSoraPlanDecoder(config)
        self.regularization = DiagonalGaussian()
