"""A bundle behind the interface that diffusers' video pipelines expect of an autoencoder; diffusers is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch

from vidtok_runtime import Tokenizer


@dataclass(frozen=True)
class Config:
    """Names as in the configuration of diffusers' video autoencoders."""

    latent_channels: int
    scaling_factor: float
    temporal_compression_ratio: int
    spatial_compression_ratio: int
    in_channels: int = 3
    out_channels: int = 3


@dataclass(frozen=True)
class EncoderOutput:
    """`N C t h w`; deterministic, therefore `latents` and no distribution."""

    latents: torch.Tensor


@dataclass(frozen=True)
class DecoderOutput:
    """`N 3 T H W` in -1..1."""

    sample: torch.Tensor


class VidTokAutoencoder:
    """Encode video to latents and back as diffusers' autoencoders do, by a KL bundle of the runtime.

    Tensors come back on the device and in the type of those that went in; the graphs run on `provider`. There are no
    gradients. `scaling_factor` is for the caller: multiply latents by it before a diffusion model, divide after.
    bundle, options: as `Tokenizer` takes them. Raises ValueError for an FSQ bundle, whose tokens are no latents.
    """

    def __init__(
        self, bundle: str | PathLike[str] | None = None, *, scaling_factor: float = 1.0, **options: Any
    ) -> None:
        self._tok = Tokenizer(bundle, **options)
        stream = self._tok.stream
        if stream.codebook_size is not None:
            raise ValueError(f"{self._tok.manifest.name} makes tokens of a codebook, not latents; give a KL bundle")
        self.config = Config(
            latent_channels=stream.latent_channels,
            scaling_factor=scaling_factor,
            temporal_compression_ratio=stream.time_factor,
            spatial_compression_ratio=stream.spatial_multiple,
        )

    def encode(self, video: torch.Tensor) -> EncoderOutput:
        """Latents (the mean) of clips `N 3 T H W` in -1..1; T of `1 + k * f` comes back as it is."""
        clips = video.detach().movedim(1, -1).float().cpu().numpy()  # N T H W 3
        latents = torch.stack([torch.from_numpy(self._tok.encode(clip).data) for clip in clips])  # N t C h w
        return EncoderOutput(latents.movedim(2, 1).to(video))

    def decode(self, latents: torch.Tensor, num_frames: int | None = None) -> DecoderOutput:
        """Clips of latents `N C t h w`; `num_frames` cuts off what completed the last latent."""
        clips = []
        for one in latents.detach().movedim(2, 1).float().cpu().numpy():  # t C h w
            stream = self._tok.decoder(num_frames, dtype="float32")
            clips.append(torch.cat([torch.from_numpy(frames) for frames in (stream.push(one), stream.finish())]))
        return DecoderOutput(torch.stack(clips).movedim(-1, 1).to(latents))
