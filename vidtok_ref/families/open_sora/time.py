"""Open-Sora's autoencoder along T of what single frames are encoded to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import nn

from vidtok_ref.families.open_sora.config import HALVES_TIME, Z_CHANNELS, OpenSoraConfig
from vidtok_ref.layers.blocks import StatelessBlock
from vidtok_ref.layers.conv import Beyond, ClipConv3d
from vidtok_ref.layers.resample import ChannelsToFrames

NORM_EPS = 1e-5

conv3d = partial(ClipConv3d, beyond=Beyond(2, copies=False))
halving = partial(ClipConv3d, beyond=Beyond(1, copies=False), stride=(2, 1, 1))


def point(c_in: int, c_out: int, *, bias: bool = True) -> nn.Conv3d:
    """A 1x1x1 convolution."""
    return nn.Conv3d(c_in, c_out, 1, bias=bias)


def norm_of(c: OpenSoraConfig) -> Callable[[int], nn.Module]:
    """A norm that sees all frames of a window."""
    return partial(nn.GroupNorm, c.groups, eps=NORM_EPS)


def blocks(c: OpenSoraConfig, c_in: int, c_out: int) -> nn.Sequential:
    """Residual blocks of one resolution."""
    widths = [c_in, *[c_out] * (c.num_res_blocks - 1)]
    conv, shortcut = partial(conv3d, bias=False), partial(point, bias=False)
    return nn.Sequential(*(StatelessBlock(width, c_out, conv, norm_of(c), shortcut) for width in widths))


def time_encoder(c: OpenSoraConfig) -> nn.Sequential:
    """`N 4 4k h w` to mean and log-variance `N 8 k h w`."""
    width, levels = c.ch, list[nn.Module]()
    conv_in = conv3d(Z_CHANNELS, width, bias=False)
    for mult, halves in zip(c.ch_mult, HALVES_TIME, strict=True):
        wider = c.ch * mult
        way_out = {"downsample": halving(wider, wider)} if halves else {}
        levels.append(nn.Sequential(OrderedDict(block=blocks(c, width, wider), **way_out)))
        width = wider
    return nn.Sequential(
        OrderedDict(
            conv_in=conv_in,
            down=nn.Sequential(*levels),
            mid=blocks(c, width, width),
            norm_out=norm_of(c)(width),
            silu=nn.SiLU(),
            conv_out=point(width, 2 * Z_CHANNELS),
            quant_conv=point(2 * Z_CHANNELS, 2 * Z_CHANNELS),
        )
    )


def time_decoder(c: OpenSoraConfig) -> nn.Sequential:
    """Latents `N 4 k h w` to `N 4 4k h w`."""
    width, levels = c.ch * c.ch_mult[-1], OrderedDict[str, nn.Module]()
    conv_in, mid = conv3d(Z_CHANNELS, width), blocks(c, width, width)
    for i, mult in reversed(list(enumerate(c.ch_mult))):
        narrower = c.ch * mult
        way_out: dict[str, nn.Module] = {}
        # What the encoder halved behind a level, the decoder doubles behind the next one.
        if i > 0 and HALVES_TIME[i - 1]:
            way_out = {"upsample": conv3d(narrower, 2 * narrower), "frames": ChannelsToFrames(pairs=True)}
        levels[str(i)] = nn.Sequential(OrderedDict(block=blocks(c, width, narrower), **way_out))
        width = narrower
    return nn.Sequential(
        OrderedDict(
            post_quant_conv=point(Z_CHANNELS, Z_CHANNELS),
            conv_in=conv_in,
            mid=mid,
            up=nn.Sequential(levels),
            norm_out=norm_of(c)(width),
            silu=nn.SiLU(),
            conv_out=conv3d(width, Z_CHANNELS),
        )
    )
