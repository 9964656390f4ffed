"""AE: the encoder's output is the latent."""

from __future__ import annotations

from torch import Tensor

from vidtok_ref.regularizers.base import Encoded, Regularizer, Terms


class PlainLatent(Regularizer):
    """No distribution and no codes."""

    def forward(self, h: Tensor) -> Encoded:
        return Encoded(h)

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The latent, and no terms."""
        return Encoded(h), {}
