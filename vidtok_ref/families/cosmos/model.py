"""Cosmos's encoder and decoder, which take a window of frames in one call and remember nothing."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise

from torch import nn

from vidtok_ref.families.cosmos.config import CosmosConfig
from vidtok_ref.layers.attention import SplitAttention, TimeAttention
from vidtok_ref.layers.blocks import StatelessBlock
from vidtok_ref.layers.conv import PairedConv3d, PointConv3d
from vidtok_ref.layers.norm import FrameNorm
from vidtok_ref.layers.patches import FromChannels, ToChannels, haar
from vidtok_ref.layers.resample import PooledDown, SharpenedUp
from vidtok_ref.regularizers.channel import FiniteScalarQuantizer
from vidtok_ref.regularizers.plain import PlainLatent
from vidtok_ref.streaming.causal_cache import Padding
from vidtok_ref.streaming.parts import GLOBAL, Coder
from vidtok_ref.tokenizer import VideoTokenizer


def residual(c_in: int, c_out: int) -> StatelessBlock:
    """A residual block."""
    return StatelessBlock(c_in, c_out, PairedConv3d, FrameNorm, lambda a, b: nn.Conv3d(a, b, 1))


def level(c_in: int, c_out: int, blocks: int, **way_out: nn.Module) -> nn.Sequential:
    """Blocks of one resolution and the way out of it."""
    chain = nn.Sequential(*(residual(c_in if i == 0 else c_out, c_out) for i in range(blocks)))
    return nn.Sequential(OrderedDict(block=chain, **way_out))


def middle(channels: int) -> nn.Sequential:
    """The deepest part: block, attention in space and in time, block."""
    point = partial(PointConv3d, padding=Padding.FIRST_FRAME)
    kinds = (SplitAttention, partial(TimeAttention, causal=True))
    attentions = [kind(channels, point, FrameNorm) for kind in kinds]
    return nn.Sequential(
        OrderedDict(
            block_1=residual(channels, channels),
            attn_1=nn.Sequential(*attentions),
            block_2=residual(channels, channels),
        )
    )


class CosmosEncoder(Coder):
    """Video `N 3 T H W`, T a multiple of 4, to `N C T/4 H/8 W/8`."""

    def __init__(self, c: CosmosConfig) -> None:
        super().__init__()
        kernel = haar()
        self.patch = ToChannels(kernel / kernel[0, 0].numel())
        self.conv_in = PairedConv3d(len(kernel), c.ch)
        widths = [c.ch, *(c.ch * mult for mult in c.ch_mult)]
        down = nn.Sequential()
        for i, (c_in, c_out) in enumerate(pairwise(widths)):
            way_out = {"downsample": PooledDown(c_out)} if i == 0 else {}
            down.append(level(c_in, c_out, c.num_res_blocks, **way_out))
        self.down = down
        self.mid = middle(widths[-1])
        self.norm_out = FrameNorm(widths[-1])
        self.silu = nn.SiLU()
        self.conv_out = PairedConv3d(widths[-1], c.z_channels)
        self.quant_conv = nn.Conv3d(c.z_channels, c.latent_channels, 1)
        self.parts = {
            GLOBAL: ["patch", "conv_in", "down", "mid", "norm_out", "silu", "conv_out", "quant_conv"],
        }


class CosmosDecoder(Coder):
    """Latent `N C t h w` to video `N 3 4t 8h 8w`, whose first three frames are copies of its fourth."""

    def __init__(self, c: CosmosConfig) -> None:
        super().__init__()
        kernel = haar()
        widths = [c.ch * mult for mult in reversed(c.decoder_mult)]
        self.post_quant_conv = nn.Conv3d(c.latent_channels, c.z_channels, 1)
        self.conv_in = PairedConv3d(c.z_channels, widths[0])
        self.mid = middle(widths[0])
        levels: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (c_in, c_out) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            way_out = {"upsample": SharpenedUp(c_out)} if i == 0 else {}
            levels[str(len(widths) - 1 - i)] = level(c_in, c_out, c.num_res_blocks + 1, **way_out)
        self.up = nn.Sequential(levels)
        self.norm_out = FrameNorm(widths[-1])
        self.silu = nn.SiLU()
        self.conv_out = PairedConv3d(widths[-1], len(kernel))
        self.unpatch = FromChannels(kernel)
        self.parts = {
            GLOBAL: ["post_quant_conv", "conv_in", "mid", "up", "norm_out", "silu", "conv_out", "unpatch"],
        }


class Cosmos(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: CosmosConfig

    def __init__(self, config: CosmosConfig) -> None:
        super().__init__(config)
        self.encoder = CosmosEncoder(config)
        self.decoder = CosmosDecoder(config)
        self.regularization = FiniteScalarQuantizer(config.levels) if config.levels else PlainLatent()
