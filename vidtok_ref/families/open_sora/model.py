"""Open-Sora's encoder and decoder, which take a window of frames in one call and remember nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtok_ref.families.open_sora.config import FRAME_SCALE, TIME_FACTOR, OpenSoraConfig
from vidtok_ref.families.open_sora.space import frame_decoder, frame_encoder
from vidtok_ref.families.open_sora.time import time_decoder, time_encoder
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.streaming.parts import GLOBAL, Coder
from vidtok_ref.tokenizer import VideoTokenizer


class ScaledMean(nn.Module):
    """Of mean and log-variance the mean, times a factor."""

    def forward(self, x: Tensor) -> Tensor:
        return x.chunk(2, dim=1)[0] * FRAME_SCALE


class Unscaled(nn.Module):
    """The inverse of that factor."""

    def forward(self, x: Tensor) -> Tensor:
        return x / FRAME_SCALE


class ZerosInFront(nn.Module):
    """Zeros in front of T until it is a multiple of `multiple`."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        most = self.multiple - 1
        zeros = torch.zeros_like(x[:, :, :1]).expand(-1, -1, most, -1, -1)
        return torch.cat([zeros, x], dim=2)[:, :, (x.shape[2] + most) % self.multiple :]


class OpenSoraEncoder(Coder):
    """Video `N 3 T H W` to mean and log-variance `N 8 t H/8 W/8`, t a quarter of T, rounded up."""

    def __init__(self, c: OpenSoraConfig) -> None:
        super().__init__()
        self.space = frame_encoder(c)
        self.mean = ScaledMean()
        self.filled = ZerosInFront(TIME_FACTOR)
        self.time = time_encoder(c)
        self.parts = {GLOBAL: ["space", "mean", "filled", "time"]}


class OpenSoraDecoder(Coder):
    """Latent `N 4 t h w` to video `N 3 4t 8h 8w`, whose first frames are those that the encoder put in front."""

    def __init__(self, c: OpenSoraConfig) -> None:
        super().__init__()
        self.time = time_decoder(c)
        self.unscaled = Unscaled()
        self.space = frame_decoder(c)
        self.parts = {GLOBAL: ["time", "unscaled", "space"]}


class OpenSora(VideoTokenizer):
    """Encoder, regularizer and decoder of one configuration."""

    config: OpenSoraConfig

    def __init__(self, config: OpenSoraConfig) -> None:
        super().__init__(config)
        self.encoder = OpenSoraEncoder(config)
        self.decoder = OpenSoraDecoder(config)
        self.regularization = DiagonalGaussian()
