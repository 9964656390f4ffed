"""Wan 2.1 and 2.2: described from the diffusers class `AutoencoderKLWan`; code and weights are Apache-2.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.registry import Family
from vidtok_ref.families.wan.config import CONFIGS, WanConfig

if TYPE_CHECKING:
    from vidtok_ref.families.wan.model import Wan
    from vidtok_ref.families.wan.release import ReleasedWan

T = TypeVar("T")


class WanFamily(Family):
    """Wan."""

    name = "wan"
    title = "Wan"
    licence = "Apache-2.0"
    config = WanConfig
    configs = CONFIGS
    release_class = "AutoencoderKLWan"
    release_library = "diffusers"

    def from_release(self, name: str, data: Mapping[str, Any]) -> WanConfig:
        return WanConfig.from_release(name, data)

    def make(self, config: WanConfig) -> Wan:
        from vidtok_ref.families.wan.model import Wan

        return Wan(config)

    def find_checkpoint(self, config: WanConfig) -> Path:
        from vidtok_ref.families.wan.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def release(self, model: Wan) -> ReleasedWan:
        from vidtok_ref.families.wan.release import ReleasedWan

        return ReleasedWan(model)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.wan.checkpoints import own_name

        if "encoder.quant_conv.weight" in weights:  # as our own files have them
            return dict(weights)
        original = any(name.startswith("encoder.downsamples.") for name in weights)
        return {own_name(name, original=original): tensor for name, tensor in weights.items()}


FAMILY = WanFamily()
