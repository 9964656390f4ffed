"""What an Open-Sora tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_settings
from vidtok_runtime.bundle.stream_spec import SURPLUS, CallSpec, Groups, Length, StreamSpec

HALVES_TIME = (False, True, True, False)  # of the levels in time
TIME_FACTOR = 1 << sum(HALVES_TIME)
Z_CHANNELS = 4  # of a frame, and of a latent
FRAME_SCALE = 0.18215  # by which what the frames are encoded to is multiplied
LATENT_MEAN = (-0.1, 0.34, 0.27, 0.98)
LATENT_STD = (3.85, 2.32, 2.33, 3.06)


@dataclass(frozen=True)
class OpenSoraConfig(FamilyConfig):
    """One tokenizer: frames are encoded one by one, and what that gives is encoded along T.

    space_channels: of the levels in space, of which every one but the last halves H and W behind it. space_blocks: of
    each. The levels in time have `ch * ch_mult[i]` channels and num_res_blocks blocks. space_groups, groups: of
    channels that a norm sees together. window: frames that the release encodes at once.
    """

    kind = "a configuration of Open-Sora"

    space_channels: tuple[int, ...] = (128, 256, 512, 512)
    space_blocks: int = 2
    space_groups: int = 32
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: int = 4
    groups: int = 32
    window: int = 17

    def __post_init__(self) -> None:
        sizes = (self.space_blocks, self.space_groups, self.ch, self.num_res_blocks, self.groups, self.window)
        if min(*sizes, *self.space_channels, *self.ch_mult) < 1:
            raise VariantError(f"{self.name}: widths, the window and counts of blocks and groups must be positive")
        if len(self.ch_mult) != len(HALVES_TIME):
            raise VariantError(f"{self.name}: ch_mult has {len(self.ch_mult)} levels, not {len(HALVES_TIME)}")
        for widths, groups in (
            (self.space_channels, self.space_groups),
            ([self.ch * mult for mult in self.ch_mult], self.groups),
        ):
            if any(width % groups for width in widths):
                raise VariantError(f"{self.name}: channels {list(widths)} do not make {groups} groups")

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: windows of one call each; zeros that the encoder fills a latent with are surplus."""
        return StreamSpec(
            time_factor=TIME_FACTOR,
            spatial_multiple=1 << (len(self.space_channels) - 1),
            latent_channels=Z_CHANNELS,
            encoder=CallSpec(1, None),
            decoder=CallSpec(1, None, drop=SURPLUS),
            length=Length(0, 1),
            groups=Groups(self.window, -(-self.window // TIME_FACTOR)),
            latent_mean=LATENT_MEAN,
            latent_std=LATENT_STD,
        )

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> OpenSoraConfig:
        """The settings of the release's `config.json`; raises VariantError for what this family does not have."""
        stages = {"": data, "spatial": data.get("spatial", {}), "temporal": data.get("temporal", {})}
        for stage, only in _ONLY.items():
            check_settings(name, stages[stage], only)
        given = {ours: stages[stage][key] for (stage, key), ours in _RELEASED.items() if key in stages[stage]}
        given |= overrides
        if given.get("window", 1) is None:
            raise VariantError(
                "micro_frame_size of this configuration is null, one window for a whole clip; give it a number"
            )
        return cls.from_dict({"name": name, **given})


# Stage and key of a released configuration: what they are here, and those that have one value.
_RELEASED = {
    ("spatial", "block_out_channels"): "space_channels",
    ("spatial", "layers_per_block"): "space_blocks",
    ("spatial", "norm_num_groups"): "space_groups",
    ("temporal", "filters"): "ch",
    ("temporal", "channel_multipliers"): "ch_mult",
    ("temporal", "num_res_blocks"): "num_res_blocks",
    ("temporal", "num_groups"): "groups",
    ("", "micro_frame_size"): "window",
}
_ONLY: dict[str, dict[str, Any]] = {
    "": {"spatial_latent_factor": FRAME_SCALE, "shift": list(LATENT_MEAN), "scale": list(LATENT_STD)},
    "spatial": {"in_channels": 3, "out_channels": 3, "latent_channels": Z_CHANNELS, "act_fn": "silu"},
    "temporal": {
        "in_out_channels": Z_CHANNELS,
        "latent_embed_dim": Z_CHANNELS,
        "embed_dim": Z_CHANNELS,
        "temporal_downsample": list(HALVES_TIME[:-1]),
        "activation_fn": "swish",
    },
}

CONFIGS = {"open-sora-1.2": OpenSoraConfig("open-sora-1.2")}
