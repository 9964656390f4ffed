"""How large the tensors inside a network are and how far it looks in space, from the variant in the manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import BundleError


@dataclass(frozen=True)
class Stage:
    """Layers of one resolution: the widest tensor's channels, pixels a position, frames a step, reach in pixels."""

    channels: int
    space: int
    time: int
    reach: int


def stages(manifest: Manifest, role: str) -> list[Stage]:
    """The stages of the encoder or decoder in the order of the data; attention, which looks everywhere, is left out.

    Raises BundleError.
    """
    try:
        return list((_encoder if role == "encoder" else _decoder)(manifest.raw["variant"]))
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"the variant in {manifest.folder} is damaged ({error!r}); export the bundle again"
        ) from error


def _encoder(v: dict[str, Any]) -> Iterator[Stage]:
    c, space, time, widths = v["ch"], 1, 1, [v["ch"] * m for m in v["ch_mult"]]
    yield Stage(c, space, time, 1)
    for level, width in enumerate(widths):
        yield Stage(max(c, width), space, time, space * 2 * v["num_res_blocks"])
        c = width
        if level in v["spatial_down"]:
            yield Stage(c, space, time, space)
            space *= 2
        if level in v["temporal_down"]:
            yield Stage(c, space, time, space)
            time *= 2
    yield Stage(c, space, time, space * 5)  # four convolutions in the middle, one at the end


def _decoder(v: dict[str, Any]) -> Iterator[Stage]:
    space, time = 2 ** len(v["spatial_down"]), 2 ** len(v["temporal_down"])
    widths = [v["ch"] * m for m in v["ch_mult"]]
    c = widths[-1]
    yield Stage(max(c, v["z_channels"]), space, time, space * 5)
    for level, width in reversed(list(enumerate(widths))):
        yield Stage(max(c, width), space, time, space * 2 * (v["num_res_blocks"] + 1))
        c = width
        if level in v["spatial_up"]:
            yield Stage(c, space // 2, time, space)
            space //= 2
        if level in v["temporal_up"]:
            yield Stage(c, space, time // 2, space)
            time //= 2
    yield Stage(c, space, time, space)


def reach(manifest: Manifest, role: str) -> int:
    """Latents that the convolutions of a role look at on either side of one."""
    return -(-sum(stage.reach for stage in stages(manifest, role)) // manifest.spatial_multiple)
