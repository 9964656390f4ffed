"""What a Cosmos tokenizer is built from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_levels, check_settings
from vidtok_runtime.bundle.stream_spec import CallSpec, Groups, Length, StreamSpec

TIME_FACTOR, SPATIAL_FACTOR = 4, 8
WINDOW = 17  # frames that the release encodes at once


@dataclass(frozen=True)
class CosmosConfig(FamilyConfig):
    """One tokenizer: level i has `ch * ch_mult[i]` channels, of the decoder `ch * decoder_mult[i]`.

    The encoder halves H and W behind its first level, the decoder doubles them behind its deepest. levels: values of
    each of the `latent_channels`; (): they are numbers.
    """

    kind = "a configuration of Cosmos"

    ch: int = 128
    ch_mult: tuple[int, ...] = (2, 4, 4)
    decoder_mult: tuple[int, ...] = (2, 4)
    num_res_blocks: int = 2
    z_channels: int = 16
    latent_channels: int = 16
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = (self.ch, self.num_res_blocks, self.z_channels, self.latent_channels, *self.ch_mult, *self.decoder_mult)
        if min(sizes) < 1:
            raise VariantError(f"{self.name}: widths and block counts must be positive")
        if self.levels and len(self.levels) != self.latent_channels:
            raise VariantError(f"{self.name}: levels has {len(self.levels)} values for {self.latent_channels} channels")
        check_levels(self.name, self.levels)

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: windows, each with its first frame three times more in front, in one call each."""
        front = TIME_FACTOR - 1
        return StreamSpec(
            time_factor=TIME_FACTOR,
            spatial_multiple=SPATIAL_FACTOR,
            latent_channels=self.latent_channels,
            encoder=CallSpec(TIME_FACTOR, None),
            decoder=CallSpec(1, None, drop=front),
            length=Length(0, TIME_FACTOR),
            codebook_size=math.prod(self.levels) if self.levels else None,
            levels=self.levels,
            front_frames=front,
            groups=Groups(WINDOW, -(-WINDOW // TIME_FACTOR)),
        )

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> CosmosConfig:
        """The settings of the release's `TokenizerConfigs`; raises VariantError for what this family does not have."""
        check_settings(name, data, _ONLY)
        own = CONFIGS.get(name, cls(name))
        if bool(data.get("levels", own.levels)) != bool(own.levels):
            raise VariantError(f"{name} and this configuration are not both with levels or both without")
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if theirs in data}
        if "ch_mult" in given:
            # Without levels and at this factor of time, the release's decoder leaves the last one out.
            given["decoder_mult"] = given["ch_mult"] if own.levels else given["ch_mult"][:-1]
        return cls.from_dict({**own.to_dict(), **given, **overrides})


# Keys of a released configuration: what they are here, and those that have one value.
_RELEASED = {
    "channels": "ch",
    "channels_mult": "ch_mult",
    "num_res_blocks": "num_res_blocks",
    "z_channels": "z_channels",
    "latent_channels": "latent_channels",
    "embedding_dim": "latent_channels",
    "levels": "levels",
}
_ONLY: dict[str, Any] = {
    "patch_size": 4,
    "patch_method": "haar",
    "spatial_compression": SPATIAL_FACTOR,
    "temporal_compression": TIME_FACTOR,
    "in_channels": 3,
    "out_channels": 3,
    "z_factor": 1,
    "num_groups": 1,
    "legacy_mode": False,
    "encoder": "FACTORIZED",
    "decoder": "FACTORIZED",
    "formulation": "AE",
    "quantizer": "FSQ",
}

CONFIGS = {
    "cosmos-cv-4x8x8": CosmosConfig("cosmos-cv-4x8x8"),
    "cosmos-dv-4x8x8": CosmosConfig(
        "cosmos-dv-4x8x8", decoder_mult=(2, 4, 4), latent_channels=6, levels=(8, 8, 8, 5, 5, 5)
    ),
}
