"""The whole tokenizer: build, encode, decode."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidtok_ref.coder import Decoder, Encoder
from vidtok_ref.errors import ShapeError, VariantError
from vidtok_ref.regularizer import Encoded, FiniteScalarQuantizer, make_regularizer
from vidtok_ref.variant import Variant, find_variant
from vidtok_ref.weights import load_into, read_weights


class VidTok(nn.Module):
    """Encoder, regularizer and decoder of one variant under the released state-dict names.

    `source` says where the weights came from, `trained` whether they were loaded at all.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if not variant.causal or variant.version != "1.0":
            raise VariantError(f"{variant.name}: only causal version 1.0 models are built so far")
        self.variant = variant
        self.source = "untrained"
        self.trained = False
        self.encoder = Encoder(variant)
        self.decoder = Decoder(variant)
        self.regularization = make_regularizer(variant)

    def pad(self, video: Tensor) -> Tensor:
        """Repeat the first frame f-1 times in front and the last up to a multiple of f behind."""
        f = self.variant.time_factor
        front = video[:, :, :1].expand(-1, -1, f - 1, -1, -1)
        back = video[:, :, -1:].expand(-1, -1, -(video.shape[2] + f - 1) % f, -1, -1)
        return torch.cat([front, video, back], dim=2)

    def encode(self, video: Tensor) -> Encoded:
        """Encode a whole clip.

        video: `N 3 T H W`, float in -1..1, H and W multiples of the spatial factor.
        Raises ShapeError.
        """
        s = self.variant.spatial_factor
        if video.ndim != 5 or video.shape[1] != 3 or 0 in video.shape:
            raise ShapeError(f"video must be N 3 T H W with no empty axis, got {tuple(video.shape)}")
        if video.shape[3] % s or video.shape[4] % s:
            raise ShapeError(f"H and W must be multiples of {s}, got {tuple(video.shape[3:])}; pad the clip")
        encoded: Encoded = self.regularization(self.encoder.step(self.pad(video))[0])
        return encoded

    def decode(self, latent: Tensor, num_frames: int | None = None) -> Tensor:
        """Decode a whole clip.

        latent: `N z t h w` float, or FSQ indices `N t h w` int. Returns `N 3 T H W`, not clipped,
        with T = num_frames or all `t * f - (f - 1)` frames. Raises ShapeError.
        """
        if isinstance(self.regularization, FiniteScalarQuantizer) and not latent.is_floating_point():
            latent = self.regularization.from_indices(latent)
        if latent.ndim != 5 or latent.shape[1] != self.variant.z_channels or 0 in latent.shape:
            raise ShapeError(f"latent must be N {self.variant.z_channels} t h w, got {tuple(latent.shape)}")
        first = self.variant.time_factor - 1
        video = self.decoder.step(latent)[0][:, :, first:]
        if num_frames is not None and num_frames > video.shape[2]:
            raise ShapeError(f"{latent.shape[2]} latents hold {video.shape[2]} frames, {num_frames} were asked for")
        return video[:, :, :num_frames]

    def forward(self, video: Tensor) -> tuple[Tensor, Encoded]:
        """Reconstruction (from the mean or the codes) and what was encoded."""
        encoded = self.encode(video)
        return self.decode(encoded.latent, video.shape[2]), encoded


def build(
    variant: str | Variant,
    weights: str | PathLike[str] | Mapping[str, Tensor] | None = None,
    *,
    seed: int = 0,
    **overrides: Any,
) -> VidTok:
    """Build a reference model in evaluation mode.

    variant: a name of `VARIANTS` or a `Variant`; overrides replace its fields (`ch=16`).
    weights: checkpoint path, or mapping of released names to tensors; None: random by `seed`.
    Raises VariantError, WeightsError.
    """
    chosen = find_variant(variant, **overrides)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VidTok(chosen)
    model.source = f"untrained, seed {seed}"
    if weights is not None:
        model.source = "given tensors" if isinstance(weights, Mapping) else Path(weights).name
        model.trained = True
        load_into(model, weights if isinstance(weights, Mapping) else read_weights(weights), chosen.name)
    return model.eval()
