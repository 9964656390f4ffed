"""A model of every family exported: on both engines its bundle gives what the reference does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vidtok_ref import VideoTokenizer, build

# Of families whose layers no other test exports; other runtime paths are those of the kit.
MODELS: dict[str, dict[str, object]] = {
    "cogvideox": {"channels": (4, 4, 8), "z_channels": 4, "num_res_blocks": 1, "groups": 2},
    "cosmos-cv-4x8x8": {
        "ch": 2,
        "ch_mult": (1, 2),
        "decoder_mult": (2,),
        "num_res_blocks": 1,
        "z_channels": 4,
        "latent_channels": 4,
    },
    # Patches, and shortcuts beside the levels.
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


@pytest.mark.parametrize("name", list(MODELS))
def test_of_an_export(exported: Callable[[VideoTokenizer], Path], name: str) -> None:
    """An export compares one shot and calls of one latent, three sizes, batches of one and two."""
    model = build(name, **MODELS[name])
    rows = json.loads((exported(model) / "manifest.json").read_text())["parity"]["rows"]
    assert [(row["provider"], row["passed"]) for row in rows] == [("cpu", True), ("openvino", True)]
