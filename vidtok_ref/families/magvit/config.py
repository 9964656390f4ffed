"""What an Open-MAGVIT2 tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_settings
from vidtok_runtime.bundle.stream_spec import CallSpec, Groups, Length, StreamSpec


@dataclass(frozen=True)
class MagvitConfig(FamilyConfig):
    """One tokenizer: level i has `ch * ch_mult[i]` channels; every level but the last halves H and W behind it.

    It halves T, too, unless its multiplier is 1. groups: of channels that a norm sees together. window: frames that the
    release encodes at once, a whole number of latents behind the first frame.
    """

    kind = "a configuration of Open-MAGVIT2"

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: int = 4
    z_channels: int = 18
    groups: int = 32
    window: int = 17

    def __post_init__(self) -> None:
        sizes = (self.ch, self.num_res_blocks, self.z_channels, self.groups, self.window, *self.ch_mult)
        if min(sizes) < 1:
            raise VariantError(f"{self.name}: widths, counts of blocks and groups and the window must be positive")
        if self.ch % self.groups:
            raise VariantError(f"{self.name}: {self.ch} channels do not make {self.groups} groups")
        if (self.window - 1) % self.time_factor:
            raise VariantError(f"{self.name}: a window is 1 plus a multiple of {self.time_factor}, got {self.window}")
        if self.z_channels > 24:
            raise VariantError(f"{self.name}: 2^{self.z_channels} codes are too many, 2^24 are the limit")

    @property
    def halves_time(self) -> tuple[bool, ...]:
        """Of each level but the last: whether T is halved behind it."""
        return tuple(mult > 1 for mult in self.ch_mult[:-1])

    @property
    def time_factor(self) -> int:
        """Frames of a latent."""
        return 1 << sum(self.halves_time)

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: windows, in one call each.

        The first latent of a window is that of one frame: the frames in front of it, which fill it, are dummies.
        """
        f = self.time_factor
        return StreamSpec(
            time_factor=f,
            spatial_multiple=1 << (len(self.ch_mult) - 1),
            latent_channels=self.z_channels,
            encoder=CallSpec(f, None),
            decoder=CallSpec(1, None, drop=f - 1),
            length=Length(0, f),
            codebook_size=1 << self.z_channels,
            levels=(2,) * self.z_channels,
            front_frames=f - 1,
            groups=Groups(self.window, 1 + (self.window - 1) // f),
        )

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> MagvitConfig:
        """The `init_args` of a released configuration; raises VariantError for what this family does not have."""
        network = data.get("ddconfig", {})
        given = {
            **{ours: network[theirs] for theirs, ours in _NETWORK.items() if theirs in network},
            **{ours: data[theirs] for theirs, ours in _RELEASED.items() if theirs in data},
        }
        channels = given.get("z_channels", cls.z_channels)
        only = {"double_z": False, "in_channels": 3, "out_ch": 3, "embed_dim": channels, "n_embed": 1 << channels}
        check_settings(name, {**data, **network}, only)
        return cls.from_dict({"name": name, **given, **overrides})


# Keys of a released configuration and of its `ddconfig`: what they are here.
_RELEASED = {"num_groups": "groups", "window": "window"}
_NETWORK = {"ch": "ch", "ch_mult": "ch_mult", "num_res_blocks": "num_res_blocks", "z_channels": "z_channels"}

CONFIGS = {"magvit2-open": MagvitConfig("magvit2-open")}
