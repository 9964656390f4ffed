"""The release's own implementation (diffusers), to compare with and to measure beside."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vidtok_ref.errors import needs_extra
from vidtok_ref.families.cogvideox.checkpoints import own_name
from vidtok_ref.families.cogvideox.config import TIME_FACTOR
from vidtok_ref.families.cogvideox.model import CogVideoX


class ReleasedCogVideoX:
    """`AutoencoderKLCogVideoX` with the weights of a model, and one stream through either of its halves."""

    def __init__(self, model: CogVideoX) -> None:
        with needs_extra("peers"):
            from diffusers import AutoencoderKLCogVideoX
        c, released = model.config, cast(Any, AutoencoderKLCogVideoX)
        self.vae = released(
            block_out_channels=c.channels,
            down_block_types=("CogVideoXDownBlock3D",) * len(c.channels),
            up_block_types=("CogVideoXUpBlock3D",) * len(c.channels),
            latent_channels=c.z_channels,
            layers_per_block=c.num_res_blocks,
            norm_num_groups=c.groups,
        ).eval()
        ours = model.state_dict()
        self.vae.load_state_dict({name: ours[own_name(name)] for name in self.vae.state_dict()})
        self.vae.requires_grad_(False)
        self._caches: dict[str, Any] = {"encoder": None, "decoder": None}

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

    def step(self, role: str, x: Tensor) -> Tensor:
        """The next call of a stream; what an odd number of latents gives begins with dummies, as ours does."""
        y, self._caches[role] = getattr(self.vae, role)(x, conv_cache=self._caches[role])
        missing = -y.shape[2] % TIME_FACTOR if role == "decoder" else 0
        given: Tensor = F.pad(y, (0, 0, 0, 0, missing, 0))
        return given
