"""From the encoder's output to the latent that is stored: KL (diagonal Gaussian) and FSQ."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidtok_ref.variant import Variant


class Encoded(NamedTuple):
    """What an encoder yields: `latent` `N C t h w`; FSQ: `indices` int `N t h w`; KL: `log_variance`."""

    latent: Tensor
    indices: Tensor | None = None
    log_variance: Tensor | None = None


class DiagonalGaussian(nn.Module):
    """KL: the first half of the channels is the mean, the second the log-variance."""

    def forward(self, h: Tensor) -> Encoded:
        mean, log_variance = h.chunk(2, dim=1)
        return Encoded(mean, log_variance=log_variance.clamp(-30.0, 20.0))

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


class FiniteScalarQuantizer(nn.Module):
    """FSQ (arXiv 2309.15505): every channel is bounded and rounded to one of its levels; no parameters.

    Codes lie on multiples of `1 / (L // 2)`; index = sum of digits, channel 0 fastest.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels

    def _column(self, values: list[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, 1, 1, 1)

    def bound(self, h: Tensor) -> Tensor:
        """Squash `N C t h w` so that rounding gives exactly L different integers a channel."""
        half = [(n - 1) * (1 + 1e-3) / 2 for n in self.levels]
        offset = [0.5 if n % 2 == 0 else 0.0 for n in self.levels]
        shift = [math.atanh(o / b) for o, b in zip(offset, half, strict=True)]
        return torch.tanh(h.float() + self._column(shift, h)) * self._column(half, h) - self._column(offset, h)

    def forward(self, h: Tensor) -> Encoded:
        bounded = self.bound(h)
        digits = bounded.round()
        indices = self.to_indices(digits)
        if bounded.requires_grad:
            digits = bounded + (digits - bounded).detach()  # straight-through
        return Encoded(digits / self._half_levels(h), indices=indices)

    def _half_levels(self, like: Tensor) -> Tensor:
        return self._column([n // 2 for n in self.levels], like)

    def _base(self, like: Tensor) -> Tensor:
        return self._column([math.prod(self.levels[:i]) for i in range(len(self.levels))], like)

    def to_indices(self, digits: Tensor) -> Tensor:
        """Signed digits `N C t h w` to int32 `N t h w`."""
        return ((digits + self._half_levels(digits)) * self._base(digits)).sum(1).to(torch.int32)

    def from_indices(self, indices: Tensor) -> Tensor:
        """Token indices `N t h w` to codes `N C t h w` in -1..1."""
        place = indices.unsqueeze(1).float()
        count = self._column([float(n) for n in self.levels], place)
        half = self._half_levels(place)
        return (torch.floor(place / self._base(place)) % count - half) / half


def make_regularizer(v: Variant) -> DiagonalGaussian | FiniteScalarQuantizer:
    """The regularizer of a variant."""
    return DiagonalGaussian() if v.regularizer == "kl" else FiniteScalarQuantizer(v.levels)
