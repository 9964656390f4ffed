"""TAEHV's encoder and decoder: convolutions inside frames, and blocks that see the frame before as well."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.families.taehv.config import HALVINGS, TIME_FACTOR, TaehvConfig
from vidtok_ref.layers.conv import FrameConv2d
from vidtok_ref.layers.front import FilledUp
from vidtok_ref.layers.resample import JoinedFrames, SplitFrames
from vidtok_ref.regularizers.plain import PlainLatent
from vidtok_ref.streaming.causal_cache import CausalCache, Padding
from vidtok_ref.streaming.parts import LOCAL, Coder
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.tokenizer import VideoTokenizer


def conv(c_in: int, c_out: int, stride: int = 1, *, bias: bool = True) -> FrameConv2d:
    """A 3x3 convolution inside each frame."""
    return FrameConv2d(c_in, c_out, 3, stride=stride, padding=1, bias=bias)


class MemoryBlock(nn.Module):
    """Three convolutions of a frame and the one before it, beside a shortcut; that frame is its state."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = [layer for _ in range(2) for layer in (nn.ReLU(), conv(channels, channels))]
        self.conv = nn.Sequential(conv(2 * channels, channels), *inner)
        self.cache = CausalCache(1, Padding.ZEROS)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        frames, remembered = self.cache.step(x, state, call)
        return F.relu(self.conv(torch.cat([x, frames[:, :, :-1]], dim=1)) + x), remembered


class SoftClamp(nn.Module):
    """Numbers to -3..3, those near zero as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class TaehvCoder(Coder):
    """Layers that run one after the other, under the names 0, 1 ...; `first` before them, if there is one."""

    def __init__(self, layers: list[nn.Module], **first: nn.Module) -> None:
        super().__init__()
        children = {**first, **{str(i): layer for i, layer in enumerate(layers)}}
        for name, layer in children.items():
            self.add_module(name, layer)
        self.parts = {LOCAL: list(children)}


def make_encoder(c: TaehvConfig) -> TaehvCoder:
    """Video `N 3 T H W` to `N z T/4 H/s W/s`, T rounded up to a multiple of 4."""
    layers = [conv(3, c.ch), nn.ReLU()]
    for i in range(len(c.decoder_mult)):
        layers += [JoinedFrames(c.ch, 2 if i < HALVINGS else 1), conv(c.ch, c.ch, 2, bias=False)]
        layers += [MemoryBlock(c.ch) for _ in range(c.num_blocks)]
    return TaehvCoder([*layers, conv(c.ch, c.z_channels)], whole=FilledUp(TIME_FACTOR))


def make_decoder(c: TaehvConfig) -> TaehvCoder:
    """Latent `N z t h w` to video `N 3 4t s*h s*w`, of which a clip's first three frames do not count."""
    widths = [c.ch * mult for mult in reversed(c.decoder_mult)]
    layers = [SoftClamp(), conv(c.z_channels, widths[0]), nn.ReLU()]
    for i, (width, narrower) in enumerate(zip(widths, [*widths[1:], widths[-1]], strict=True)):
        layers += [MemoryBlock(width) for _ in range(c.num_blocks)]
        doubles = i >= len(widths) - HALVINGS
        layers += [nn.Upsample(scale_factor=(1.0, 2.0, 2.0)), SplitFrames(width, 2 if doubles else 1)]
        layers.append(conv(width, narrower, bias=False))
    return TaehvCoder([*layers, nn.ReLU(), conv(widths[-1], 3)])


class Taehv(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: TaehvConfig

    def __init__(self, config: TaehvConfig) -> None:
        super().__init__(config)
        self.encoder = make_encoder(config)
        self.decoder = make_decoder(config)
        self.regularization = PlainLatent()
