"""What an OmniTokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import FamilyConfig, check_settings
from vidtok_runtime.bundle.stream_spec import CallSpec, Groups, Length, StreamSpec


@dataclass(frozen=True)
class OmniTokenizerConfig(FamilyConfig):
    """One tokenizer: tokens of `ch` channels for patches of `time_patch` frames and `patch` times `patch` pixels.

    encoder_layers, decoder_layers: the kinds of the layers in space, "t" for attention over a frame, "w" for squares of
    `window` times `window` tokens. temporal_layers: how many look along time. codes of `code_channels` numbers.
    frames: of a window, which the network depends on.
    """

    kind = "a configuration of OmniTokenizer"

    ch: int = 512
    heads: int = 8
    head_channels: int = 64
    patch: int = 8
    time_patch: int = 4
    encoder_layers: str = "ttww"
    decoder_layers: str = "tttt"
    temporal_layers: int = 4
    window: int = 8
    widening: float = 4.0
    codes: int = 8192
    code_channels: int = 8
    frames: int = 17

    def __post_init__(self) -> None:
        sizes = (self.heads, self.head_channels, self.patch, self.temporal_layers, self.window, self.codes)
        if min(*sizes, self.ch, self.time_patch, self.code_channels, self.hidden, self.frames) < 1:
            raise VariantError(f"{self.name}: widths, patches and counts of layers, codes and frames must be positive")
        if set(self.encoder_layers + self.decoder_layers) - set("tw"):
            raise VariantError(f"{self.name}: kinds of layers are t and w")
        if self.ch % self.heads or self.head_channels % 4:
            raise VariantError(f"{self.name}: {self.heads} heads do not share {self.ch} channels, or theirs are not 4k")
        if (self.frames - 1) % self.time_patch:
            raise VariantError(f"{self.name}: frames are 1 plus a multiple of {self.time_patch}, got {self.frames}")

    @property
    def hidden(self) -> int:
        """Channels between the two maps of a feed forward layer: two thirds of what they were without gates."""
        return int(self.widening * 2 / 3 * self.ch)

    @property
    def stream(self) -> StreamSpec:
        """How clips become calls: windows of always as many frames, which are squares.

        The first latent of a window is that of one frame: the frames in front of it, which fill it, are dummies.
        """
        f, latents = self.time_patch, 1 + (self.frames - 1) // self.time_patch
        return StreamSpec(
            time_factor=f,
            spatial_multiple=self.patch,
            padding_multiple=self.patch * self.window,
            square=True,
            latent_channels=self.code_channels,
            encoder=CallSpec(f, None),
            decoder=CallSpec(1, None, drop=f - 1),
            length=Length(0, latents * f),
            codebook_size=self.codes,
            front_frames=f - 1,
            groups=Groups(self.frames, latents),
            pixel_range=(-0.5, 0.5),
        )

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> OmniTokenizerConfig:
        """The arguments of a released model; raises VariantError for what this family does not have."""
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if theirs in data}
        layers = given.get("encoder_layers", cls.encoder_layers)
        check_settings(name, data, {**_ONLY, "spatial_depth": len(layers)})
        return cls.from_dict({"name": name, **given, **overrides})


# Keys of a released model's arguments: what they are here, and those that have one value.
_RELEASED = {
    "embedding_dim": "ch",
    "heads": "heads",
    "dim_head": "head_channels",
    "patch_size": "patch",
    "temporal_patch_size": "time_patch",
    "enc_block": "encoder_layers",
    "dec_block": "decoder_layers",
    "temporal_depth": "temporal_layers",
    "twod_window_size": "window",
    "ff_mult": "widening",
    "n_codes": "codes",
    "codebook_dim": "code_channels",
    "sequence_length": "frames",
}
_ONLY: dict[str, Any] = {
    "patch_embed": "linear",
    "causal_in_temporal_transformer": True,
    "causal_in_peg": True,
    "spatial_pos": "rope",
    "l2_code": True,
    "image_channels": 3,
    "defer_temporal_pool": False,
    "defer_spatial_pool": False,
    "use_external_codebook": False,
    "use_vae": False,
    "gen_upscale": None,
}

CONFIGS = {"omnitokenizer": OmniTokenizerConfig("omnitokenizer")}
