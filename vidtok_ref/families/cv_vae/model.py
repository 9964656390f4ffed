"""CV-VAE's encoder and decoder, which take a window of frames in one call and remember nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import nn

from vidtok_ref.families.cv_vae.config import HALVES_TIME, CVVAEConfig
from vidtok_ref.families.shared_windows import TIME_FACTOR
from vidtok_ref.layers.attention import Attention, SpaceTimeAttention, SplitAttention, TimeAttention
from vidtok_ref.layers.blocks import StatelessBlock
from vidtok_ref.layers.conv import Beyond, ClipConv3d, FrameConv2d, PointLinear
from vidtok_ref.layers.norm import FrameGroupNorm, LayerNorm
from vidtok_ref.layers.resample import ChannelsToFrames, NearestUp3d, WholeLatents
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.streaming.parts import GLOBAL, Coder
from vidtok_ref.tokenizer import VideoTokenizer

NORM_EPS = 1e-5
CAUSAL, AROUND, EDGES = Beyond(2), Beyond(1, 1, copies=False), Beyond(1, 1)


class HalfBlock(StatelessBlock):
    """Residual block of a 3x3x3 convolution and one inside each frame."""

    def __init__(self, c_in: int, c_out: int, beyond: Beyond, norm: Callable[[int], nn.Module]) -> None:
        super().__init__(c_in, c_out, partial(ClipConv3d, beyond=beyond), norm, lambda a, b: nn.Conv3d(a, b, 1))
        self.conv2 = FrameConv2d(c_out, c_out, 3, padding=1)


def norm_of(c: CVVAEConfig) -> Callable[[int], nn.Module]:
    """A norm that sees all frames of a window."""
    return partial(nn.GroupNorm, c.groups, eps=NORM_EPS)


def level(c: CVVAEConfig, c_in: int, c_out: int, blocks: int, beyond: Beyond, **way_out: nn.Module) -> nn.Sequential:
    """Blocks of one resolution and the way out of it."""
    chain = nn.Sequential(*(HalfBlock(c_in if j == 0 else c_out, c_out, beyond, norm_of(c)) for j in range(blocks)))
    return nn.Sequential(OrderedDict(block=chain, **way_out))


def middle(c: CVVAEConfig, channels: int, beyond: Beyond, attention: Attention) -> nn.Sequential:
    """The deepest part: block, attention, block."""
    block_1, block_2 = (HalfBlock(channels, channels, beyond, norm_of(c)) for _ in range(2))
    return nn.Sequential(OrderedDict(block_1=block_1, attn_1=attention, block_2=block_2))


def frame_attention(c: CVVAEConfig, channels: int) -> SplitAttention:
    """Over the pixels of a frame, behind a norm that sees that frame."""
    return SplitAttention(channels, lambda a, b: FrameConv2d(a, b, 1), partial(FrameGroupNorm, c.groups, eps=NORM_EPS))


class CVVAEEncoder(Coder):
    """Video `N 3 1+4k H W` to mean and log-variance `N 2z 1+k H/8 W/8`."""

    def __init__(self, c: CVVAEConfig) -> None:
        super().__init__()
        width, levels = c.ch, list[nn.Module]()
        self.conv_in = ClipConv3d(3, width, CAUSAL)
        for i, wider in enumerate(c.ch * mult for mult in c.ch_mult):
            way_out = {}
            if i < len(HALVES_TIME):
                stride = (2 if HALVES_TIME[i] else 1, 2, 2)
                way_out = {"downsample": ClipConv3d(wider, wider, CAUSAL, stride=stride, centred=False)}
            levels.append(level(c, width, wider, c.num_res_blocks, CAUSAL, **way_out))
            width = wider
        self.down = nn.Sequential(*levels)
        self.mid = middle(c, width, CAUSAL, frame_attention(c, width))
        self.norm_out = norm_of(c)(width)
        self.silu = nn.SiLU()
        self.conv_out = ClipConv3d(width, 2 * c.z_channels, CAUSAL)
        self.parts = {GLOBAL: ["conv_in", "down", "mid", "norm_out", "silu", "conv_out"]}


class CVVAEDecoder(Coder):
    """Latent `N z 1+k h w` to video `N 3 4+4k 8h 8w`, whose first three frames are copies of its fourth."""

    def __init__(self, c: CVVAEConfig) -> None:
        super().__init__()
        widths = [c.ch * mult for mult in c.ch_mult]
        width, levels = widths[-1], OrderedDict[str, nn.Module]()
        self.conv_in = ClipConv3d(c.z_channels, width, AROUND)
        time = TimeAttention(width, PointLinear, partial(LayerNorm, eps=NORM_EPS), causal=False)
        self.mid = middle(c, width, AROUND, SpaceTimeAttention(frame_attention(c, width), time))
        for i, narrower in reversed(list(enumerate(widths))):
            way_out: dict[str, nn.Module] = {}
            if i > 0:
                doubles = HALVES_TIME[i - 1]
                up = ClipConv3d(narrower, 2 * narrower if doubles else narrower, EDGES)
                way_out = {"upsample": NearestUp3d(up)}
                if doubles:
                    way_out["frames"] = ChannelsToFrames(pairs=False, drop=1)
            levels[str(i)] = level(c, width, narrower, c.num_res_blocks + 1, AROUND, **way_out)
            width = narrower
        self.up = nn.Sequential(levels)
        self.norm_out = norm_of(c)(width)
        self.silu = nn.SiLU()
        self.conv_out = ClipConv3d(width, 3, AROUND)
        self.whole = WholeLatents(TIME_FACTOR)
        self.parts = {GLOBAL: ["conv_in", "mid", "up", "norm_out", "silu", "conv_out", "whole"]}


class CVVAE(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: CVVAEConfig

    def __init__(self, config: CVVAEConfig) -> None:
        super().__init__(config)
        self.encoder = CVVAEEncoder(config)
        self.decoder = CVVAEDecoder(config)
        self.regularization = DiagonalGaussian()
