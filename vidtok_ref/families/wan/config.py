"""What a Wan tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_settings
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, CallSpec, Length, StreamSpec


@dataclass(frozen=True)
class WanConfig(FamilyConfig):
    """One tokenizer: level i has `ch * ch_mult[i]` channels; every level but the last halves H and W behind it.

    temporal_down: whether the encoder halves T there, too; the decoder doubles in the opposite order. latent_mean,
    latent_std: the release's scale, one number for each of the `z_channels`; both or neither. patch: side of the
    squares of pixels that the encoder takes as channels. shortcuts: what goes into a level is added, resampled without
    weights, to what comes out. decoder_ch: None: `ch`.
    """

    kind = "a configuration of Wan"

    ch: int = 96
    z_channels: int = 16
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_down: tuple[bool, ...] = (False, True, True)
    latent_mean: tuple[float, ...] | None = None
    latent_std: tuple[float, ...] | None = None
    decoder_ch: int | None = None
    patch: int = 1
    shortcuts: bool = False

    def __post_init__(self) -> None:
        if min(self.ch, self.decoder_width, self.z_channels, self.num_res_blocks, self.patch, *self.ch_mult) < 1:
            raise VariantError(f"{self.name}: widths, block counts and patches must be positive")
        if len(self.temporal_down) != len(self.ch_mult) - 1:
            raise VariantError(f"{self.name}: temporal_down has one value for every level but the last")
        if self.shortcuts:
            self._check_shortcuts()
        scales = [scale for scale in (self.latent_mean, self.latent_std) if scale is not None]
        if len(scales) == 1 or any(len(scale) != self.z_channels for scale in scales):
            raise VariantError(
                f"{self.name}: latent_mean and latent_std have {self.z_channels} numbers, or neither is there"
            )

    def _check_shortcuts(self) -> None:
        """Raise VariantError where a level's two sides are no equal runs of each other."""
        blocks = [4 << halves for halves in self.temporal_down]  # frames and pixels that become one, or come of one
        up = self.ch_mult[::-1]
        averaged = zip((1, *self.ch_mult), self.ch_mult, [*blocks, 1], strict=False)
        copied = zip(up, (up[0], *up), reversed(blocks), strict=False)
        for fine, coarse, block in (*averaged, *copied):
            if fine * block % coarse:
                raise VariantError(
                    f"{self.name}: with shortcuts, {fine} (of ch_mult) times the block of {block} must be a multiple "
                    f"of {coarse}"
                )

    @property
    def decoder_width(self) -> int:
        """As `ch`, of the decoder."""
        return self.ch if self.decoder_ch is None else self.decoder_ch

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
            spatial_multiple=self.patch << len(self.temporal_down),
            latent_channels=self.z_channels,
            encoder=CallSpec(f, 4 * f, flags=first),
            decoder=CallSpec(1, 4, drop=f - 1, flags=first),
            length=Length(0, f),
            front_frames=f - 1,
            latent_mean=self.latent_mean,
            latent_std=self.latent_std,
        )

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> WanConfig:
        """The settings of a diffusers `config.json`; raises VariantError for what this family does not have."""
        own = CONFIGS.get(name, cls(name))
        channels = 3 * own.patch**2
        only = {
            "attn_scales": [],
            "is_residual": own.shortcuts,
            "in_channels": channels,
            "out_channels": channels,
            "patch_size": own.patch if own.patch > 1 else None,
        }
        check_settings(name, data, only)
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if data.get(theirs) is not None}
        channels = (given | overrides).get("z_channels", cls.z_channels)
        # diffusers writes the scale of its 16 channels, however many there are.
        given = {k: v for k, v in given.items() if k not in _SCALE or len(v) == channels}
        fixed = {"name": name, "patch": own.patch, "shortcuts": own.shortcuts}
        return cls.from_dict({**fixed, **given, **overrides})


# Keys of a diffusers configuration: what they are here.
_RELEASED = {
    "base_dim": "ch",
    "decoder_base_dim": "decoder_ch",
    "z_dim": "z_channels",
    "dim_mult": "ch_mult",
    "num_res_blocks": "num_res_blocks",
    "temperal_downsample": "temporal_down",
    "latents_mean": "latent_mean",
    "latents_std": "latent_std",
}
_SCALE = ("latent_mean", "latent_std")

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
    ),
    "wan-2.2": WanConfig(
        "wan-2.2",
        ch=160,
        decoder_ch=256,
        z_channels=48,
        patch=2,
        shortcuts=True,
        latent_mean=(
            *(-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557),
            *(-0.1382, 0.0542, 0.2813, 0.0891, 0.157, -0.0098, 0.0375, -0.1825),
            *(-0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502),
            *(-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123),
            *(-0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052, 0.3748),
            *(0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
        ),
        latent_std=(
            *(0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013),
            *(0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978),
            *(0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659),
            *(0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093),
            *(0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887),
            *(0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
        ),
    ),
}
