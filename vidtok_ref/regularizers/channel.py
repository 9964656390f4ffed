"""Quantizers by channel: FSQ and LFQ."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtok_ref.regularizers.base import Encoded, Quantizer, Terms, straight_through
from vidtok_ref.regularizers.entropy import entropy_gap


class ChannelQuantizer(Quantizer):
    """Quantizes every channel on its own; no parameters.

    A channel's digits 0..L-1 are counted from its `middle` and stored as multiples of it: -1..1.
    Index = sum of digits, channel 0 fastest.
    """

    def __init__(self, levels: tuple[int, ...], middle: list[float]) -> None:
        super().__init__()
        self.levels = levels
        self.middle = middle

    def bound(self, h: Tensor) -> Tensor:
        """The encoder's output `N C t h w` in units of digits, counted from the middle."""
        raise NotImplementedError

    def nearest(self, bounded: Tensor) -> Tensor:
        """The digits, counted from the middle, that the output of `bound` stands for."""
        raise NotImplementedError

    def digits(self, like: Tensor) -> list[Tensor]:
        """The digits of each channel, counted from the middle; float32 on the device of `like`."""
        return [
            torch.arange(n, dtype=torch.float32, device=like.device) - middle
            for n, middle in zip(self.levels, self.middle, strict=True)
        ]

    def forward(self, h: Tensor) -> Encoded:
        bounded = self.bound(h)
        digits = self.nearest(bounded)
        indices = ((digits + self._middle(h)) * self._base(h)).sum(1).to(torch.int32)
        return Encoded(straight_through(bounded, digits) / self._middle(h), indices=indices)

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The codes, `entropy` (`entropy_gap`, nats) and `commitment` (mean square of `h` minus its code)."""
        encoded: Encoded = self(h)
        channel_codes = [digits / middle for digits, middle in zip(self.digits(h), self.middle, strict=True)]
        commitment = F.mse_loss(h.float(), encoded.latent.detach())
        return encoded, {"entropy": entropy_gap(h, channel_codes), "commitment": commitment}

    def from_indices(self, indices: Tensor) -> Tensor:
        place = indices.unsqueeze(1).float()
        middle = self._middle(place)
        return (self._digits(place) - middle) / middle

    def distance_to_cell(self, h: Tensor, indices: Tensor) -> Tensor:
        """In digits."""
        bounded, middle = self.bound(h), self._middle(h)
        count = self._column([float(n) for n in self.levels], h)
        inside = torch.minimum(torch.maximum(bounded, -middle), count - 1 - middle)
        digits = self._digits(indices.unsqueeze(1).float()) - middle
        return ((inside - digits).abs() - 0.5).amax(1).clamp(min=0)

    def _digits(self, place: Tensor) -> Tensor:
        return torch.floor(place / self._base(place)) % self._column([float(n) for n in self.levels], place)

    def _column(self, values: list[float], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, 1, 1, 1)

    def _middle(self, like: Tensor) -> Tensor:
        return self._column(self.middle, like)

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
