"""Open-Sora's autoencoder of single frames, that of SDXL."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import nn

from vidtok_ref.families.open_sora.config import Z_CHANNELS, OpenSoraConfig
from vidtok_ref.layers.attention import SplitAttention
from vidtok_ref.layers.blocks import StatelessBlock
from vidtok_ref.layers.conv import FrameConv2d, PointLinear
from vidtok_ref.layers.norm import NORM_EPS, FrameGroupNorm
from vidtok_ref.layers.resample import SpatialDown, SpatialUp

conv2d = partial(FrameConv2d, kernel_size=3, padding=1)
point2d = partial(FrameConv2d, kernel_size=1)


def norm_of(c: OpenSoraConfig) -> Callable[[int], nn.Module]:
    """A norm that sees a frame."""
    return partial(FrameGroupNorm, c.space_groups, eps=NORM_EPS)


def level(c: OpenSoraConfig, c_in: int, c_out: int, blocks: int, **way_out: nn.Module) -> nn.Sequential:
    """Blocks of one resolution and the way out of it."""
    widths = [c_in, *[c_out] * (blocks - 1)]
    chain = nn.Sequential(*(StatelessBlock(width, c_out, conv2d, norm_of(c)) for width in widths))
    return nn.Sequential(OrderedDict(block=chain, **way_out))


def middle(c: OpenSoraConfig, channels: int) -> nn.Sequential:
    """The deepest part: block, attention over the pixels of a frame, block."""
    block_1, block_2 = (StatelessBlock(channels, channels, conv2d, norm_of(c)) for _ in range(2))
    attention = SplitAttention(channels, PointLinear, norm_of(c))
    return nn.Sequential(OrderedDict(block_1=block_1, attn_1=attention, block_2=block_2))


def frame_encoder(c: OpenSoraConfig) -> nn.Sequential:
    """Frames `N 3 T H W` to mean and log-variance `N 8 T H/8 W/8`."""
    width, levels = c.space_channels[0], list[nn.Module]()
    conv_in = conv2d(3, width)
    for i, wider in enumerate(c.space_channels):
        way_out = {"downsample": SpatialDown(wider)} if i < len(c.space_channels) - 1 else {}
        levels.append(level(c, width, wider, c.space_blocks, **way_out))
        width = wider
    return nn.Sequential(
        OrderedDict(
            conv_in=conv_in,
            down=nn.Sequential(*levels),
            mid=middle(c, width),
            norm_out=norm_of(c)(width),
            silu=nn.SiLU(),
            conv_out=conv2d(width, 2 * Z_CHANNELS),
            quant_conv=point2d(2 * Z_CHANNELS, 2 * Z_CHANNELS),
        )
    )


def frame_decoder(c: OpenSoraConfig) -> nn.Sequential:
    """What frames are encoded to, `N 4 T h w`, to frames `N 3 T 8h 8w`."""
    width, levels = c.space_channels[-1], list[nn.Module]()
    conv_in, mid = conv2d(Z_CHANNELS, width), middle(c, width)
    for i, narrower in reversed(list(enumerate(c.space_channels))):
        way_out = {"upsample": SpatialUp(narrower, narrower)} if i > 0 else {}
        levels.append(level(c, width, narrower, c.space_blocks + 1, **way_out))
        width = narrower
    return nn.Sequential(
        OrderedDict(
            post_quant_conv=point2d(Z_CHANNELS, Z_CHANNELS),
            conv_in=conv_in,
            mid=mid,
            up=nn.Sequential(*levels),
            norm_out=norm_of(c)(width),
            silu=nn.SiLU(),
            conv_out=conv2d(width, 3),
        )
    )
