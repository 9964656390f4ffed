"""What an Open-Sora-Plan tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.errors import VariantError
from vidtok_ref.families.config import check_settings
from vidtok_ref.families.shared_windows import TIME_FACTOR, SharedWindowConfig

HALVES_TIME = (False, True, True)  # of the levels that halve H and W behind them
FLAT_LEVELS = 2  # the encoder's first ones, whose blocks see one frame each


@dataclass(frozen=True)
class OpenSoraPlanConfig(SharedWindowConfig):
    """One tokenizer of Open-Sora-Plan."""

    kind = "a configuration of Open-Sora-Plan"
    halves_time = HALVES_TIME

    window: int = 29

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> OpenSoraPlanConfig:
        """The settings of the release's `config.json`; raises VariantError for what this family does not have."""
        check_settings(name, data, _ONLY)
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if theirs in data}
        latents = 1 + given.get("window", cls.window) // TIME_FACTOR
        channels = given.get("z_channels", cls.z_channels)
        for key, only in (("embed_dim", channels), ("tile_latent_min_size_t", latents)):
            if (found := data.get(key, only)) != only:
                raise VariantError(f"{key} of this configuration is {found!r}; the rest of it needs {only}")
        return cls.from_dict({"name": name, **given, **overrides})


# Keys of a released configuration: what they are here, and those that have one value.
_RELEASED = {
    "hidden_size": "ch",
    "hidden_size_mult": "ch_mult",
    "z_channels": "z_channels",
    "num_res_blocks": "num_res_blocks",
    "num_groups": "groups",
    "tile_sample_min_size_t": "window",
}
_ONLY: dict[str, Any] = {
    "attn_resolutions": [],
    "double_z": True,
    "q_conv": "CausalConv3d",
    "encoder_conv_in": "Conv2d",
    "encoder_conv_out": "CausalConv3d",
    "encoder_attention": "AttnBlock3DFix",
    "encoder_resnet_blocks": ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
    "encoder_spatial_downsample": ["Downsample", "Spatial2xTime2x3DDownsample", "Spatial2xTime2x3DDownsample", ""],
    "encoder_temporal_downsample": [""] * 4,
    "encoder_mid_resnet": "ResnetBlock3D",
    "decoder_conv_in": "CausalConv3d",
    "decoder_conv_out": "CausalConv3d",
    "decoder_attention": "AttnBlock3DFix",
    "decoder_resnet_blocks": ["ResnetBlock3D"] * 4,
    "decoder_spatial_upsample": ["", "SpatialUpsample2x", "Spatial2xTime2x3DUpsample", "Spatial2xTime2x3DUpsample"],
    "decoder_temporal_upsample": [""] * 4,
    "decoder_mid_resnet": "ResnetBlock3D",
    "use_quant_layer": True,
}

CONFIGS = {"open-sora-plan-1.2": OpenSoraPlanConfig("open-sora-plan-1.2")}
