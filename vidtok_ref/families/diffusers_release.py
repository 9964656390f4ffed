"""What releases' implementations in diffusers have in common, to compare with and to measure beside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class DiffusersRelease:
    """An autoencoder of diffusers, `vae`, with an encoder and a decoder."""

    vae: Any

    def compile(self) -> None:
        """Compile both halves."""
        for half in ("encoder", "decoder"):
            setattr(self.vae, half, torch.compile(getattr(self.vae, half), dynamic=False))

    def encode(self, video: Tensor) -> Tensor:
        """Video `N 3 T H W` to the mean of its posterior, `N C t h w`, in float64."""
        mean: Tensor = self.vae.double().encode(video.double()).latent_dist.mode()
        return mean

    def decode(self, latent: Tensor) -> Tensor:
        """Latent `N C t h w` to video, `N 3 T H W`, in float64."""
        video: Tensor = self.vae.double().decode(latent.double()).sample
        return video
