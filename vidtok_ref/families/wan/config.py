"""What a Wan tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, CallSpec, Length, StreamSpec


@dataclass(frozen=True)
class WanConfig:
    """One tokenizer: level i has `ch * ch_mult[i]` channels; every level but the last halves H and W behind it.

    temporal_down: whether the encoder halves T there, too; the decoder doubles in the opposite order. latent_mean,
    latent_std: the release's scale, one number for each of the `z_channels`; both or neither.
    """

    name: str
    ch: int = 96
    z_channels: int = 16
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_down: tuple[bool, ...] = (False, True, True)
    latent_mean: tuple[float, ...] | None = None
    latent_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if min(self.ch, self.z_channels, self.num_res_blocks, *self.ch_mult) < 1:
            raise VariantError(f"{self.name}: widths and block counts must be positive")
        if len(self.temporal_down) != len(self.ch_mult) - 1:
            raise VariantError(f"{self.name}: temporal_down has one value for every level but the last")
        scales = [scale for scale in (self.latent_mean, self.latent_std) if scale is not None]
        if len(scales) == 1 or any(len(scale) != self.z_channels for scale in scales):
            raise VariantError(
                f"{self.name}: latent_mean and latent_std have {self.z_channels} numbers, or neither is there"
            )

    @property
    def time_factor(self) -> int:
        """Frames a latent."""
        return 1 << sum(self.temporal_down)

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: each takes whole latents, the first one with its one frame behind dummies."""
        f, first = self.time_factor, {"first": (FIRST_CALL,)}
        return StreamSpec(
            time_factor=f,
            spatial_multiple=1 << len(self.temporal_down),
            latent_channels=self.z_channels,
            encoder=CallSpec(f, 4 * f, flags=first),
            decoder=CallSpec(1, 4, drop=f - 1, flags=first),
            length=Length(0, f),
            front_frames=f - 1,
            latent_mean=self.latent_mean,
            latent_std=self.latent_std,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready fields, tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WanConfig:
        """Inverse of `to_dict`; raises VariantError on unknown or missing fields."""
        known = {f.name for f in fields(cls)}
        if not {"name"} <= set(data) <= known:
            raise VariantError(f"a configuration of Wan has the fields {sorted(known)}, got {sorted(data)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any]) -> WanConfig:
        """The settings of a diffusers `config.json`; raises VariantError for what this family does not have."""
        for key, only in _ONLY.items():
            if (found := data.get(key, only)) != only:
                raise VariantError(f"{key} of this configuration is {found!r}; {name} is built with {only!r} only")
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if data.get(theirs) is not None}
        return cls.from_dict({"name": name, **given})


# Keys of a diffusers configuration: what they are here, and those that have one value.
_RELEASED = {
    "base_dim": "ch",
    "z_dim": "z_channels",
    "dim_mult": "ch_mult",
    "num_res_blocks": "num_res_blocks",
    "temperal_downsample": "temporal_down",
    "latents_mean": "latent_mean",
    "latents_std": "latent_std",
}
_ONLY: dict[str, Any] = {
    "attn_scales": [],
    "decoder_base_dim": None,
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
}

CONFIGS = {
    "wan-2.1": WanConfig(
        "wan-2.1",
        latent_mean=(
            *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
            *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
        ),
        latent_std=(
            *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
            *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
        ),
    )
}
