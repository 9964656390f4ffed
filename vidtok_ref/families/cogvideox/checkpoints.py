"""Released weights of CogVideoX: where they are, and their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

# Ours by those of diffusers; what is not here is the same in both.
_OURS = {
    ".conv_shortcut.": ".nin_shortcut.",
    ".downsamplers.0.": ".downsampler.space.",
    ".upsamplers.0.": ".upsampler.space.",
}
_ORIGINAL = re.compile(r"(encoder\.down|decoder\.up)\.(\d+)\.(block|downsample|upsample)\.")
_KINDS = {"block": "resnets", "downsample": "downsampler.space", "upsample": "upsampler.space"}


def own_name(name: str) -> str:
    """Our name of a tensor of diffusers, or of one that has it already."""
    for released, ours in _OURS.items():
        name = name.replace(released, ours)
    return name


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of those of diffusers, of the original `3d-vae.pt`, or of ours."""
    levels = [int(m[2]) for name in weights if (m := _ORIGINAL.match(name)) and m[1] == "decoder.up"]
    deepest = max(levels, default=0)

    def renamed(m: re.Match[str]) -> str:
        # The original counts levels of the decoder from the pixels.
        level = int(m[2]) if m[1] == "encoder.down" else deepest - int(m[2])
        return f"{m[1]}_blocks.{level}.{_KINDS[m[3]]}."

    def of_original(name: str) -> str:
        name = re.sub(r"\.mid\.block_([12])\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", name)
        return _ORIGINAL.sub(renamed, name)

    return {own_name(of_original(name)): tensor for name, tensor in weights.items()}
