"""The description of a tokenizer from which everything else is derived."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_levels
from vidtok_runtime.bundle.stream_spec import (
    FIRST_CALL,
    FLUSH_CALL,
    SECOND_CALL,
    CallSpec,
    Flush,
    Groups,
    Length,
    StreamSpec,
)

# What `levels` holds for each regularizer.
_LEVELS = {
    "kl": "none",
    "fsq": "one count a channel",
    "lfq": "2 for every channel",
    "vq": "one number, the size of the codebook",
}


@dataclass(frozen=True)
class Variant(FamilyConfig):
    """One tokenizer.

    architecture: the released one, or one of the paper's ablations (Table 2, variants 1 to 3).
    "mixed": 2D and 1D blocks, 3D convolutions at both ends, in the middle and where T is resampled (AlphaBlender).
    "3d": each pair of 2D and 1D blocks is one 3D block, and one 3x3x3 convolution resamples all axes of a level.
    "separated": 1D convolutions resample T, without AlphaBlender.
    "2d": a 2D and a 1D convolution in place of each 3D one of the middle.

    regularizer: "kl" or "fsq" as released, or what the paper compares FSQ with (Table 3): "lfq", "vq". `levels` has
    for "fsq" one count a channel, for "lfq" a 2 a channel, for "vq" one number, the size of the codebook.

    Level 0 has full resolution; level i has `ch * ch_mult[i]` channels. `spatial_down` and
    `temporal_down` name the levels after which the encoder halves H and W, or T;
    `spatial_up` and `temporal_up` the levels after which the decoder doubles them.
    """

    kind = "a variant"

    regularizer: Literal["kl", "fsq", "lfq", "vq"]
    z_channels: int
    causal: bool = True
    version: Literal["1.0", "1.1"] = "1.0"
    levels: tuple[int, ...] = ()
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    spatial_down: tuple[int, ...] = (0, 1, 2)
    temporal_down: tuple[int, ...] = (1, 2)
    spatial_up: tuple[int, ...] = (1, 2, 3)
    temporal_up: tuple[int, ...] = (1, 2)
    architecture: Literal["mixed", "3d", "separated", "2d"] = "mixed"

    def __post_init__(self) -> None:
        depth = len(self.ch_mult)
        used = {*self.spatial_down, *self.temporal_down, *self.spatial_up, *self.temporal_up}
        if self.regularizer not in _LEVELS or self.version not in ("1.0", "1.1"):
            raise VariantError(
                f"{self.name}: regularizer is {', '.join(_LEVELS)} and version is 1.0 or 1.1, "
                f"got {self.regularizer!r} and {self.version!r}"
            )
        if self.architecture not in ("mixed", "3d", "separated", "2d"):
            raise VariantError(f"{self.name}: architecture is mixed, 3d, separated or 2d, got {self.architecture!r}")
        if self.architecture in ("3d", "separated") and self.version != "1.0":
            raise VariantError(
                f"{self.name}: architecture {self.architecture} replaces the layers in which version 1.1 differs; "
                "it exists in version 1.0 only"
            )
        if not self.causal and self.version != "1.0":
            raise VariantError(f"{self.name}: non-causal models exist in version 1.0 only")
        if self.ch < 1 or self.z_channels < 1 or self.num_res_blocks < 1 or min(self.ch_mult, default=0) < 1:
            raise VariantError(f"{self.name}: widths and block counts must be positive, and ch_mult not empty")
        if not used <= set(range(depth)):
            raise VariantError(f"{self.name}: resampling at levels {sorted(used)}, only {depth} exist")
        if len(self.spatial_down) != len(self.spatial_up) or len(self.temporal_down) != len(self.temporal_up):
            raise VariantError(f"{self.name}: the decoder must upsample as often as the encoder downsamples")
        fits = {
            "kl": not self.levels,
            "fsq": len(self.levels) == self.z_channels,
            "lfq": self.levels == (2,) * self.z_channels,
            "vq": len(self.levels) == 1,
        }
        if not fits[self.regularizer]:
            raise VariantError(
                f"{self.name}: levels of {self.regularizer} are {_LEVELS[self.regularizer]}, got {self.levels}"
            )
        check_levels(self.name, self.levels)

    @property
    def time_factor(self) -> int:
        """Frames per latent, f."""
        return 1 << len(self.temporal_down)

    @property
    def front_frames(self) -> int:
        """Copies of the first frame in front of a clip: f-1 if causal, so that 1+kf frames give 1+k latents."""
        return self.time_factor - 1 if self.causal else 0

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent along H and W."""
        return 1 << len(self.spatial_down)

    @property
    def codebook_size(self) -> int | None:
        """Number of distinct tokens; None for KL."""
        return prod(self.levels) if self.levels else None

    @property
    def encoder_channels(self) -> int:
        """Channels of the encoder's last convolution: mean and log-variance for KL."""
        return self.z_channels * (2 if self.regularizer == "kl" else 1)

    @property
    def look_ahead(self) -> int:
        """Frames by which the decoder's video comes late: version 1.1 interpolates with the frame behind."""
        return self.time_factor - 1 if self.version == "1.1" else 0

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls. Non-causal: windows of 16 frames, as published, or of others."""
        f, lag = self.time_factor, self.look_ahead
        first = {"first": (FIRST_CALL,)} if self.version == "1.1" else {}
        encoder, decoder = CallSpec(f, 4 * f, flags=first), CallSpec(1, 4, drop=self.front_frames, flags=first)
        groups = None
        if lag:
            # A boundary lies behind the first latent, which goes alone, and behind the clip: a dummy latent pushes out
            # the frames that still wait.
            boundary = {**first, "boundary": (SECOND_CALL, FLUSH_CALL)}
            decoder = CallSpec(1, 4, 1, drop=self.front_frames + lag, flush=Flush(1, lag), flags=boundary)
        if not self.causal:
            encoder, decoder = CallSpec(f, None), CallSpec(1, None)
            groups = Groups(4 * f, 4, multiple=f)
        return StreamSpec(
            time_factor=f,
            spatial_multiple=self.spatial_factor,
            latent_channels=self.z_channels,
            encoder=encoder,
            decoder=decoder,
            length=Length(0, f),
            codebook_size=self.codebook_size,
            levels=self.levels if self.regularizer in ("fsq", "lfq") else (),
            front_frames=self.front_frames,
            groups=groups,
        )


_DEEP = {
    "ch_mult": (1, 2, 4, 4, 4),
    "spatial_down": (0, 1, 2, 3),
    "temporal_down": (2, 3),
    "spatial_up": (1, 2, 3, 4),
    "temporal_up": (1, 2),
}
_SHAPES: dict[str, dict[str, Any]] = {
    "488": {},
    "41616": _DEEP,
    "288": {"temporal_down": (1,), "temporal_up": (2,)},
    "444": {"spatial_down": (1, 2), "spatial_up": (1, 2)},
    "888": {"temporal_down": (0, 1, 2), "temporal_up": (1, 2, 3)},
}

# name, regularizer, z_channels, shape, causal, version: the rows of Table 5 and the later releases.
_ROWS = [
    ("kl-4chn", "kl", 4, "488", True, "1.0"),
    ("kl-4chn-4x16x16", "kl", 4, "41616", True, "1.0"),
    ("kl-4chn-noncausal", "kl", 4, "488", False, "1.0"),
    ("kl-4chn-4x16x16-noncausal", "kl", 4, "41616", False, "1.0"),
    ("kl-8chn", "kl", 8, "488", True, "1.0"),
    ("kl-16chn", "kl", 16, "488", True, "1.0"),
    ("kl-8chn-2x8x8", "kl", 8, "288", True, "1.0"),
    ("kl-4chn-4x4x4", "kl", 4, "444", True, "1.0"),
    ("fsq-4096", "fsq", 4, "488", True, "1.0"),
    ("fsq-32768", "fsq", 5, "488", True, "1.0"),
    ("fsq-262144", "fsq", 6, "488", True, "1.0"),
    ("fsq-262144-4x16x16", "fsq", 6, "41616", True, "1.0"),
    ("fsq-262144-noncausal", "fsq", 6, "488", False, "1.0"),
    ("fsq-262144-4x16x16-noncausal", "fsq", 6, "41616", False, "1.0"),
    ("kl-16chn-noncausal", "kl", 16, "488", False, "1.0"),
    ("kl-16chn-4x16x16-noncausal", "kl", 16, "41616", False, "1.0"),
    ("kl-4chn-v1.1", "kl", 4, "488", True, "1.1"),
    ("kl-16chn-v1.1", "kl", 16, "488", True, "1.1"),
    ("kl-16chn-4x16x16-v1.1", "kl", 16, "41616", True, "1.1"),
    ("kl-8chn-2x8x8-v1.1", "kl", 8, "288", True, "1.1"),
    ("fsq-32768-v1.1", "fsq", 5, "488", True, "1.1"),
    ("fsq-262144-4x16x16-v1.1", "fsq", 6, "41616", True, "1.1"),
    ("fsq-32768-8x8x8-v1.1", "fsq", 5, "888", True, "1.1"),
]

VARIANTS: dict[str, Variant] = {
    name: Variant(
        name=name,
        regularizer=regularizer,  # type: ignore[arg-type]
        z_channels=z,
        causal=causal,
        version=version,  # type: ignore[arg-type]
        levels=(8,) * z if regularizer == "fsq" else (),
        **_SHAPES[shape],
    )
    for name, regularizer, z, shape, causal, version in _ROWS
}
