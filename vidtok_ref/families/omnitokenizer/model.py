"""OmniTokenizer's encoder and decoder, which take a window of frames in one call and remember nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtok_ref.families.omnitokenizer.config import OmniTokenizerConfig
from vidtok_ref.layers.front import Dummies, WithoutDummies
from vidtok_ref.layers.norm import UnitNorm
from vidtok_ref.layers.patches import FromChannels, ToChannels, consecutive
from vidtok_ref.layers.transformer import (
    NORM_EPS,
    ChannelMap,
    FrameAttention,
    GatedFeedForward,
    PlaceAttention,
    PositionConv,
    Transformer,
    WindowAttention,
)
from vidtok_ref.regularizers.vq import Codebook
from vidtok_ref.streaming.parts import GLOBAL, Coder
from vidtok_ref.tokenizer import VideoTokenizer


def spatial(c: OmniTokenizerConfig, kinds: str) -> Transformer:
    """Layers that look at frames, and a little along time."""
    layers: list[dict[str, nn.Module]] = []
    for kind in kinds:
        feed_forward = GatedFeedForward(c.ch, c.hidden)
        if kind == "w":
            layers.append({"attention": WindowAttention(c.ch, c.heads, c.window), "feed_forward": feed_forward})
            continue
        attention = FrameAttention(c.ch, c.heads, c.head_channels)
        position = PositionConv(c.ch, by_place=False)
        layers.append({"position": position, "attention": attention, "feed_forward": feed_forward})
    return Transformer(c.ch, layers)


def temporal(c: OmniTokenizerConfig) -> Transformer:
    """Layers that look along time."""
    layers: list[dict[str, nn.Module]] = [
        {
            "position": PositionConv(c.ch, by_place=True),
            "attention": PlaceAttention(c.ch, c.heads, c.head_channels),
            "feed_forward": GatedFeedForward(c.ch, c.hidden),
        }
        for _ in range(c.temporal_layers)
    ]
    return Transformer(c.ch, layers)


class PatchEmbedding(nn.Module):
    """Blocks of so many frames, rows and columns as tokens."""

    def __init__(self, channels: int, time: int, space: int) -> None:
        super().__init__()
        values = 3 * time * space**2
        self.values = ToChannels(*consecutive(3, values, time, space))
        self.norm_in = nn.LayerNorm(values, eps=NORM_EPS)
        self.linear = nn.Linear(values, channels)
        self.norm_out = nn.LayerNorm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm_out(self.linear(self.norm_in(self.values(x).movedim(1, -1)))).movedim(-1, 1)
        return y


class PatchPixels(nn.Module):
    """Tokens as blocks of so many frames, rows and columns."""

    def __init__(self, channels: int, time: int, space: int) -> None:
        super().__init__()
        values = 3 * time * space**2
        self.linear = nn.Linear(channels, values)
        self.pixels = FromChannels(*consecutive(3, values, time, space))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pixels(self.linear(x.movedim(1, -1)).movedim(-1, 1))
        return y


class FirstAlone(nn.Module):
    """One layer for the first frame (or its token), another for all others, joined in time."""

    def __init__(self, first: PatchEmbedding | PatchPixels, others: PatchEmbedding | PatchPixels) -> None:
        super().__init__()
        self.first = first
        self.others = others

    def weights(self) -> list[Tensor]:
        """Of both linear maps."""
        return [self.first.linear.weight, self.others.linear.weight]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x[:, :, :1]), self.others(x[:, :, 1:])], dim=2)


class OmniTokenizerEncoder(Coder):
    """Video `N 3 T H W`, of a window behind its dummies, to `N C T/f H/s W/s` of length 1 over C."""

    def __init__(self, c: OmniTokenizerConfig) -> None:
        super().__init__()
        self.front = WithoutDummies(c.time_patch - 1)
        self.embedding = FirstAlone(
            PatchEmbedding(c.ch, 1, c.patch),
            PatchEmbedding(c.ch, c.time_patch, c.patch),
        )
        self.spatial = spatial(c, c.encoder_layers)
        self.temporal = temporal(c)
        self.pre_vq = ChannelMap(c.ch, c.code_channels)
        self.direction = UnitNorm()
        self.parts = {GLOBAL: ["front", "embedding", "spatial", "temporal", "pre_vq", "direction"]}

    def first_weights(self) -> list[Tensor]:
        return self.embedding.weights()


class OmniTokenizerDecoder(Coder):
    """Codes `N C t h w` of a window to video `N 3 f*t s*h s*w`, whose first f - 1 frames are copies of the next."""

    def __init__(self, c: OmniTokenizerConfig) -> None:
        super().__init__()
        self.post_vq = ChannelMap(c.code_channels, c.ch)
        self.temporal = temporal(c)
        self.spatial = spatial(c, c.decoder_layers)
        self.pixels = FirstAlone(PatchPixels(c.ch, 1, c.patch), PatchPixels(c.ch, c.time_patch, c.patch))
        self.front = Dummies(c.time_patch - 1)
        self.parts = {GLOBAL: ["post_vq", "temporal", "spatial", "pixels", "front"]}

    def last_weights(self) -> list[Tensor]:
        return self.pixels.weights()


class OmniTokenizer(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: OmniTokenizerConfig

    def __init__(self, config: OmniTokenizerConfig) -> None:
        super().__init__(config)
        self.encoder = OmniTokenizerEncoder(config)
        self.decoder = OmniTokenizerDecoder(config)
        self.regularization = Codebook(config.codes, config.code_channels)
