"""What a CogVideoX tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_settings
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, CallSpec, Length, StreamSpec

HALVINGS = 2  # of T: behind the encoder's first levels, and in front of the decoder's levels after its first
TIME_FACTOR = 1 << HALVINGS
LATENTS = 2  # a call


@dataclass(frozen=True)
class CogVideoXConfig(FamilyConfig):
    """One tokenizer: level i has `channels[i]`; every level but the last halves H and W behind it, the first two T.

    groups: of channels that a norm sees together. scaling_factor: what the release's pipelines multiply latents with.
    """

    kind = "a configuration of CogVideoX"

    channels: tuple[int, ...] = (128, 256, 256, 512)
    z_channels: int = 16
    num_res_blocks: int = 3
    groups: int = 32
    scaling_factor: float = 1.15258426

    def __post_init__(self) -> None:
        if min(self.z_channels, self.num_res_blocks, self.groups, *self.channels) < 1 or self.scaling_factor <= 0:
            raise VariantError(f"{self.name}: widths, counts of blocks and groups and the scale must be positive")
        if len(self.channels) <= HALVINGS:
            raise VariantError(f"{self.name}: channels has {len(self.channels)} levels, fewer than {HALVINGS + 1}")
        if any(width % self.groups for width in self.channels):
            raise VariantError(f"{self.name}: channels {list(self.channels)} do not make {self.groups} groups")

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: 9, 8, 8 ... frames and 3, 2, 2 ... latents, since norms see all frames of a call.

        The first latent is that of one frame: what the decoder gives for it begins with dummies.
        """
        f, first = TIME_FACTOR, {"first": (FIRST_CALL,)}
        frames = LATENTS * f
        return StreamSpec(
            time_factor=f,
            spatial_multiple=1 << (len(self.channels) - 1),
            latent_channels=self.z_channels,
            encoder=CallSpec(frames, frames, frames + 1, exact=True, flags=first),
            decoder=CallSpec(LATENTS, LATENTS, LATENTS + 1, exact=True, drop=f - 1, flags=first),
            length=Length(1, frames),
            latent_mean=(0.0,) * self.z_channels,
            latent_std=(1 / self.scaling_factor,) * self.z_channels,
        )

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> CogVideoXConfig:
        """The settings of a diffusers `config.json`; raises VariantError for what this family does not have."""
        check_settings(name, data, _ONLY)
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if data.get(theirs) is not None}
        return cls.from_dict({"name": name, **given, **overrides})


# Keys of a diffusers configuration: what they are here, and those that have one value.
_RELEASED = {
    "block_out_channels": "channels",
    "latent_channels": "z_channels",
    "layers_per_block": "num_res_blocks",
    "norm_num_groups": "groups",
    "scaling_factor": "scaling_factor",
}
_ONLY: dict[str, Any] = {
    "act_fn": "silu",
    "in_channels": 3,
    "latents_mean": None,
    "latents_std": None,
    "norm_eps": 1e-6,
    "out_channels": 3,
    "shift_factor": None,
    "temporal_compression_ratio": TIME_FACTOR,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}

CONFIGS = {"cogvideox": CogVideoXConfig("cogvideox")}
