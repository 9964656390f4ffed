"""Narrow models of the families whose streams are windows of one call each, by the names of their configurations."""

from __future__ import annotations

from typing import Any

_LEVELS = {"ch": 4, "ch_mult": (1, 1, 1, 2), "num_res_blocks": 1, "groups": 2}
NARROW_WINDOWS: dict[str, dict[str, Any]] = {
    "cv-vae": {**_LEVELS, "window": 9},
    "open-sora-1.2": {**_LEVELS, "space_channels": (4, 8), "space_blocks": 1, "space_groups": 2},
    "open-sora-plan-1.2": {**_LEVELS, "window": 9},
}
