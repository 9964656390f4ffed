"""The release's own implementation (diffusers), to compare with and to measure beside."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from vidtok_ref.errors import needs_extra
from vidtok_ref.families.diffusers_release import DiffusersRelease
from vidtok_ref.families.wan.checkpoints import own_name
from vidtok_ref.families.wan.model import Wan


class ReleasedWan(DiffusersRelease):
    """`AutoencoderKLWan` with the weights of a model, and one stream through either of its halves."""

    def __init__(self, model: Wan) -> None:
        with needs_extra("peers"):
            from diffusers import AutoencoderKLWan
            from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
        c, released = model.config, cast(Any, AutoencoderKLWan)
        self.vae = released(
            base_dim=c.ch,
            z_dim=c.z_channels,
            dim_mult=list(c.ch_mult),
            num_res_blocks=c.num_res_blocks,
            temperal_downsample=list(c.temporal_down),
            decoder_base_dim=c.decoder_width,
            is_residual=c.shortcuts,
            in_channels=3 * c.patch**2,
            out_channels=3 * c.patch**2,
            patch_size=c.patch if c.patch > 1 else None,
        ).eval()
        ours = model.state_dict()
        self.vae.load_state_dict({name: ours[own_name(name, original=False)] for name in self.vae.state_dict()})
        self.vae.requires_grad_(False)
        self.vae.clear_cache()
        self._patched, self._unpatched = (partial(f, patch_size=c.patch) for f in (patchify, unpatchify))
        self._started = False

    def step(self, role: str, x: Tensor) -> Tensor:
        """The next call of a stream, in the release's own pieces: of frames (whole latents), or of latents.

        In the first call only the last frame of the first latent counts, and only one frame comes of that latent.
        """
        vae, out = self.vae, []
        x = vae.post_quant_conv(x) if role == "decoder" else self._patched(x)
        for piece in x.split(4 if role == "encoder" else 1, dim=2):
            if role == "encoder":
                piece = piece if self._started else piece[:, :, -1:]
                out.append(vae.encoder(piece, feat_cache=vae._enc_feat_map, feat_idx=[0]))
            else:
                first = {} if self._started else {"first_chunk": True}
                out.append(vae.decoder(piece, feat_cache=vae._feat_map, feat_idx=[0], **first))
            self._started = True
        y = torch.cat(out, dim=2)
        given: Tensor = vae.quant_conv(y) if role == "encoder" else self._unpatched(y)
        return given
