"""KL: a diagonal Gaussian for every latent."""

from __future__ import annotations

import torch
from torch import Tensor

from vidtok_ref.regularizers.base import Encoded, Regularizer, Terms


class DiagonalGaussian(Regularizer):
    """KL: the first half of the channels is the mean, the second the log-variance."""

    def forward(self, h: Tensor) -> Encoded:
        mean, log_variance = h.chunk(2, dim=1)
        return Encoded(mean, log_variance=log_variance.clamp(-30.0, 20.0))

    def regularize(self, h: Tensor) -> tuple[Encoded, Terms]:
        """The mean (sampling is left to `sample`), and `kl`: nats a clip, mean over the batch."""
        encoded: Encoded = self(h)
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
