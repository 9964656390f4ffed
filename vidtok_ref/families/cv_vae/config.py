"""What a CV-VAE tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_settings
from vidtok_runtime.bundle.stream_spec import CallSpec, Groups, Length, StreamSpec

TIME_FACTOR = 4
HALVES_TIME = (True, False, True)  # of the levels that halve H and W behind them


@dataclass(frozen=True)
class CVVAEConfig(FamilyConfig):
    """One tokenizer: level i of four has `ch * ch_mult[i]` channels; every level but the last halves H and W behind it.

    groups: of channels that a norm sees together. window: frames that the release encodes at once, one of them shared
    with the window before. scaling_factor: what the release's pipelines multiply latents with.
    """

    kind = "a configuration of CV-VAE"

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    z_channels: int = 4
    num_res_blocks: int = 2
    groups: int = 32
    window: int = 17
    scaling_factor: float = 0.18215

    def __post_init__(self) -> None:
        if min(self.ch, self.z_channels, self.num_res_blocks, self.groups, *self.ch_mult) < 1:
            raise VariantError(f"{self.name}: widths and counts of blocks and groups must be positive")
        if len(self.ch_mult) != len(HALVES_TIME) + 1:
            raise VariantError(f"{self.name}: ch_mult has {len(self.ch_mult)} levels, not {len(HALVES_TIME) + 1}")
        if any(self.ch * mult % self.groups for mult in self.ch_mult):
            raise VariantError(f"{self.name}: {self.ch} times {list(self.ch_mult)} do not make {self.groups} groups")
        if self.window <= TIME_FACTOR or self.window % TIME_FACTOR != 1:
            raise VariantError(f"{self.name}: a window has 1 + {TIME_FACTOR}k frames, k from 1, not {self.window}")
        if self.scaling_factor <= 0:
            raise VariantError(f"{self.name}: scaling_factor must be positive")

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: windows, each in one call, with one frame and one latent in common."""
        return StreamSpec(
            time_factor=TIME_FACTOR,
            spatial_multiple=1 << len(HALVES_TIME),
            latent_channels=self.z_channels,
            encoder=CallSpec(1, None),
            decoder=CallSpec(1, None, drop=TIME_FACTOR - 1),
            length=Length(1, TIME_FACTOR),
            groups=Groups(self.window, 1 + self.window // TIME_FACTOR, shared_frames=1, shared_latents=1),
            latent_mean=(0.0,) * self.z_channels,
            latent_std=(1 / self.scaling_factor,) * self.z_channels,
        )

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any]) -> CVVAEConfig:
        """The settings of the release's `config.json`; raises VariantError for what this family does not have."""
        check_settings(name, data, _ONLY)
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if theirs in data}
        if "en_de_n_frames_a_time" in data:
            given["window"] = 1 + (data["en_de_n_frames_a_time"] or 0)
        return cls.from_dict({"name": name, **given})


# Keys of a released configuration: what they are here, and those that have one value.
_RELEASED = {
    "ch": "ch",
    "ch_mult": "ch_mult",
    "z_channels": "z_channels",
    "num_res_blocks": "num_res_blocks",
    "num_groups": "groups",
    "scaling_factor": "scaling_factor",
}
_ONLY: dict[str, Any] = {
    "attn_resolutions": [],
    "causal_decoder": False,
    "causal_encoder": True,
    "decoder_attn_type": "spatial-temporal-xformer",
    "double_z": True,
    "half_3d": True,
    "in_channels": 3,
    "out_ch": 3,
    "reshape_x_dim_to_4": False,
    "reshape_z_dim_to_4": False,
    "spatial_n_compress": 1 << len(HALVES_TIME),
    "time_n_compress": TIME_FACTOR,
    "use_3d_conv": True,
}

CONFIGS = {"cv-vae": CVVAEConfig("cv-vae")}
