"""What a CV-VAE tokenizer is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidtok_ref.families.config import check_settings
from vidtok_ref.families.shared_windows import TIME_FACTOR, SharedWindowConfig

HALVES_TIME = (True, False, True)  # of the levels that halve H and W behind them


@dataclass(frozen=True)
class CVVAEConfig(SharedWindowConfig):
    """One tokenizer of CV-VAE."""

    kind = "a configuration of CV-VAE"
    halves_time = HALVES_TIME

    @classmethod
    def from_release(cls, name: str, data: Mapping[str, Any], /, **overrides: Any) -> CVVAEConfig:
        """The settings of the release's `config.json`; raises VariantError for what this family does not have."""
        check_settings(name, data, _ONLY)
        given = {ours: data[theirs] for theirs, ours in _RELEASED.items() if theirs in data}
        if "en_de_n_frames_a_time" in data:
            given["window"] = 1 + (data["en_de_n_frames_a_time"] or 0)
        return cls.from_dict({"name": name, **given, **overrides})


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
