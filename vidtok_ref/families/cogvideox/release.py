"""The release's own implementation (diffusers), to compare with and to measure beside."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor

from vidtok_ref.errors import needs_extra
from vidtok_ref.families.cogvideox.checkpoints import own_name
from vidtok_ref.families.cogvideox.config import TIME_FACTOR
from vidtok_ref.families.cogvideox.model import CogVideoX
from vidtok_ref.families.diffusers_release import DiffusersRelease


class ReleasedCogVideoX(DiffusersRelease):
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

    def step(self, role: str, x: Tensor) -> Tensor:
        """The next call of a stream; what an odd number of latents gives begins with dummies, as ours does."""
        y, self._caches[role] = getattr(self.vae, role)(x, conv_cache=self._caches[role])
        missing = -y.shape[2] % TIME_FACTOR if role == "decoder" else 0
        given: Tensor = F.pad(y, (0, 0, 0, 0, missing, 0))
        return given
