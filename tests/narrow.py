"""A narrow model of every family, from seed 0, so that tests of many kinds share one export of each."""

from __future__ import annotations

from typing import Any

from conftest import SHALLOW

from vidtok_ref import VideoTokenizer, build

_COSMOS = {"ch": 2, "ch_mult": (1, 2), "num_res_blocks": 1, "z_channels": 4}
_LEVELS = {"ch": 4, "ch_mult": (1, 1, 1, 2), "num_res_blocks": 1, "groups": 2}
# What differs from the released sizes, by variant.
NARROW: dict[str, dict[str, Any]] = {
    "cogvideox": {"channels": (4, 4, 8), "z_channels": 4, "num_res_blocks": 1, "groups": 2},
    "cosmos-cv-4x8x8": _COSMOS | {"decoder_mult": (2,), "latent_channels": 4},
    "cosmos-dv-4x8x8": _COSMOS | {"decoder_mult": (1, 2)},
    "cv-vae": _LEVELS | {"window": 9},
    "fsq-32768": SHALLOW,
    "magvit2-open": {"ch": 2, "ch_mult": (1, 2, 2), "num_res_blocks": 1, "z_channels": 3, "groups": 2, "window": 9},
    "omnitokenizer": {
        "ch": 8,
        "heads": 2,
        "head_channels": 8,
        "patch": 2,
        "encoder_layers": "tw",
        "decoder_layers": "t",
        "temporal_layers": 1,
        "window": 2,
        "codes": 16,
        "code_channels": 3,
        "frames": 17,
    },
    "open-sora-1.2": _LEVELS | {"space_channels": (4, 8), "space_blocks": 1, "space_groups": 2},
    "open-sora-plan-1.2": _LEVELS | {"window": 9},
    "taehv": {"ch": 4, "decoder_mult": (1, 2), "z_channels": 3, "num_blocks": 1},
    "wan-2.2": {
        "ch": 4,
        "decoder_ch": 4,
        "z_channels": 4,
        "ch_mult": (2, 2),
        "num_res_blocks": 1,
        "temporal_down": (True,),
        "latent_mean": None,
        "latent_std": None,
    },
}


def narrow(variant: str) -> VideoTokenizer:
    """The narrow model of a variant."""
    return build(variant, **NARROW[variant])
