"""From the encoder's output to the latent that is stored: KL (diagonal Gaussian) and quantizers by channel (FSQ, LFQ).

Every regularizer has `forward(h)`, what an encoder yields, and `regularize(h)`, the same with straight-through
gradients and the unweighted terms of its loss. Those with a codebook are a `Quantizer`; VQ is in `codebook.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.families.vidtok.variant import Variant
from vidtok_ref.regularizers.entropy import entropy_gap

Terms = dict[str, Tensor]


class Encoded(NamedTuple):
    """What an encoder yields: `latent` `N C t h w`; quantizers: `indices` int `N t h w`; KL: `log_variance`."""

    latent: Tensor
    indices: Tensor | None = None
    log_variance: Tensor | None = None


class DiagonalGaussian(nn.Module):
    """KL: the first half of the channels is the mean, the second the log-variance."""

    def forward(self, h: Tensor) -> Encoded:
        mean, log_variance = h.chunk(2, dim=1)
        return Encoded(mean, log_variance=log_variance.clamp(-30.0, 20.0))

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The mean (sampling is left to `sample`), and `kl`: nats a clip, mean over the batch."""
        encoded = self(h)
        return encoded, {"kl": self.kl(encoded).mean()}

    @staticmethod
    def sample(encoded: Encoded, generator: torch.Generator) -> Tensor:
        """Draw a latent; only on request, the mean is the rule."""
        assert encoded.log_variance is not None
        noise = torch.randn(encoded.latent.shape, generator=generator, device=generator.device)
        return encoded.latent + torch.exp(0.5 * encoded.log_variance) * noise.to(encoded.latent)

    @staticmethod
    def kl(encoded: Encoded) -> Tensor:
        """Divergence from the unit normal, nats a clip: `N`."""
        assert encoded.log_variance is not None
        terms = encoded.latent**2 + encoded.log_variance.exp() - 1 - encoded.log_variance
        return 0.5 * terms.flatten(1).sum(1)


class Quantizer(nn.Module):
    """A regularizer with a codebook; its tokens are int32 `N t h w`."""

    def from_indices(self, indices: Tensor) -> Tensor:
        """Codes `N C t h w` of tokens `N t h w`."""
        raise NotImplementedError

    def miss(self, h: Tensor, indices: Tensor) -> Tensor:
        """How far the encoder's output lies outside the cell of the given tokens, `N t h w`; 0 where they are right."""
        raise NotImplementedError


def straight_through(h: Tensor, codes: Tensor) -> Tensor:
    """The codes, with the gradient of what was quantized."""
    return h + (codes - h).detach() if h.requires_grad else codes


class ChannelQuantizer(Quantizer):
    """Quantizes every channel on its own; no parameters.

    A channel's digits 0..L-1 are counted from its middle, `half`, and stored as multiples of it: -1..1.
    Index = sum of digits, channel 0 fastest.
    """

    def __init__(self, levels: tuple[int, ...], half: list[float]) -> None:
        super().__init__()
        self.levels = levels
        self.half = half

    def bound(self, h: Tensor) -> Tensor:
        """The encoder's output `N C t h w` in units of digits, counted from the middle."""
        raise NotImplementedError

    def nearest(self, bounded: Tensor) -> Tensor:
        """The digits, counted from the middle, that the output of `bound` stands for."""
        raise NotImplementedError

    def digits(self, like: Tensor) -> list[Tensor]:
        """The digits of each channel, counted from the middle; float32 on the device of `like`."""
        return [
            torch.arange(n, dtype=torch.float32, device=like.device) - half
            for n, half in zip(self.levels, self.half, strict=True)
        ]

    def forward(self, h: Tensor) -> Encoded:
        bounded = self.bound(h)
        digits = self.nearest(bounded)
        indices = ((digits + self._half(h)) * self._base(h)).sum(1).to(torch.int32)
        return Encoded(straight_through(bounded, digits) / self._half(h), indices=indices)

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The codes, `entropy` (`entropy_gap`, nats) and `commitment` (mean square of `h` minus its code)."""
        encoded = self(h)
        channel_codes = [digits / half for digits, half in zip(self.digits(h), self.half, strict=True)]
        commitment = F.mse_loss(h.float(), encoded.latent.detach())
        return encoded, {"entropy": entropy_gap(h, channel_codes), "commitment": commitment}

    def from_indices(self, indices: Tensor) -> Tensor:
        place = indices.unsqueeze(1).float()
        half = self._half(place)
        return (self._digits(place) - half) / half

    def miss(self, h: Tensor, indices: Tensor) -> Tensor:
        """In digits."""
        bounded, half = self.bound(h), self._half(h)
        count = self._column([float(n) for n in self.levels], h)
        inside = torch.minimum(torch.maximum(bounded, -half), count - 1 - half)
        digits = self._digits(indices.unsqueeze(1).float()) - half
        return ((inside - digits).abs() - 0.5).amax(1).clamp(min=0)

    def _digits(self, place: Tensor) -> Tensor:
        return torch.floor(place / self._base(place)) % self._column([float(n) for n in self.levels], place)

    def _column(self, values: list[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, 1, 1, 1)

    def _half(self, like: Tensor) -> Tensor:
        return self._column(self.half, like)

    def _base(self, like: Tensor) -> Tensor:
        return self._column([float(math.prod(self.levels[:i])) for i in range(len(self.levels))], like)


class FiniteScalarQuantizer(ChannelQuantizer):
    """FSQ (arXiv 2309.15505): every channel is bounded and rounded to one of its levels."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__(levels, [float(n // 2) for n in levels])

    def bound(self, h: Tensor) -> Tensor:
        """Squash `N C t h w` so that rounding gives exactly L different integers a channel."""
        half = [(n - 1) * (1 + 1e-3) / 2 for n in self.levels]
        offset = [0.5 if n % 2 == 0 else 0.0 for n in self.levels]
        shift = [math.atanh(o / b) for o, b in zip(offset, half, strict=True)]
        return torch.tanh(h.float() + self._column(shift, h)) * self._column(half, h) - self._column(offset, h)

    def nearest(self, bounded: Tensor) -> Tensor:
        return bounded.round()


class LookupFreeQuantizer(ChannelQuantizer):
    """LFQ (arXiv 2310.05737): the sign of every channel, -1 or 1; the tokens are those of a binary FSQ."""

    def __init__(self, channels: int) -> None:
        super().__init__((2,) * channels, [0.5] * channels)

    def bound(self, h: Tensor) -> Tensor:
        """Half of `h`: the digits 0 and 1 lie half a digit below and above the middle."""
        return h.float() * 0.5

    def nearest(self, bounded: Tensor) -> Tensor:
        return torch.where(bounded > 0, 0.5, -0.5)


def utilization(indices: Tensor, codebook_size: int) -> float:
    """Share of the codebook that occurs at least once among tokens (int, any shape), as in `vidtok-run eval`."""
    return indices.unique().numel() / codebook_size


def make_regularizer(v: Variant) -> DiagonalGaussian | Quantizer:
    """The regularizer of a variant; raises ModelError when VQ's library is not installed."""
    if v.regularizer == "kl":
        return DiagonalGaussian()
    if v.regularizer == "fsq":
        return FiniteScalarQuantizer(v.levels)
    if v.regularizer == "lfq":
        return LookupFreeQuantizer(v.z_channels)
    from vidtok_ref.regularizers.vq import VectorQuantizer  # its library is an extra

    return VectorQuantizer(v.levels[0], v.z_channels)
