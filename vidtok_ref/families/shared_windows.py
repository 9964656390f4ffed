"""Configurations of tokenizers with four levels that encode windows which share a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig
from vidtok_runtime.bundle.stream_spec import CallSpec, Groups, Length, StreamSpec

TIME_FACTOR = 4


@dataclass(frozen=True)
class SharedWindowConfig(FamilyConfig):
    """One tokenizer: level i of four has `ch * ch_mult[i]` channels; every level but the last halves H and W behind it.

    halves_time: of these levels, whether they halve time, too. groups: of channels that a norm sees together. window:
    frames that the release encodes at once, one of them shared with the window before. scaling_factor: what the
    release's pipelines multiply latents with.
    """

    halves_time: ClassVar[tuple[bool, bool, bool]]

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
        if len(self.ch_mult) != len(self.halves_time) + 1:
            raise VariantError(f"{self.name}: ch_mult has {len(self.ch_mult)} levels, not {len(self.halves_time) + 1}")
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
            spatial_multiple=1 << len(self.halves_time),
            latent_channels=self.z_channels,
            encoder=CallSpec(1, None),
            decoder=CallSpec(1, None, drop=TIME_FACTOR - 1),
            length=Length(1, TIME_FACTOR),
            groups=Groups(self.window, 1 + self.window // TIME_FACTOR, shared_frames=1, shared_latents=1),
            latent_mean=(0.0,) * self.z_channels,
            latent_std=(1 / self.scaling_factor,) * self.z_channels,
        )
