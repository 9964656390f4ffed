"""CogVideoX's tokenizer: described from the diffusers class `AutoencoderKLCogVideoX`; that code is Apache-2.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.cogvideox.config import CONFIGS, CogVideoXConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.cogvideox.model import CogVideoX
    from vidtok_ref.families.cogvideox.release import ReleasedCogVideoX

T = TypeVar("T")


class CogVideoXFamily(Family):
    """CogVideoX."""

    name = "cogvideox"
    title = "CogVideoX"
    licence = "Apache-2.0 (weights of CogVideoX-2b; those of 5b have the CogVideoX licence)"
    config = CogVideoXConfig
    configs = CONFIGS
    release_class = "AutoencoderKLCogVideoX"
    release_library = "diffusers"

    def from_release(self, name: str, data: Mapping[str, Any]) -> CogVideoXConfig:
        return CogVideoXConfig.from_release(name, data)

    def make(self, config: CogVideoXConfig) -> CogVideoX:
        from vidtok_ref.families.cogvideox.model import CogVideoX

        return CogVideoX(config)

    def find_checkpoint(self, config: CogVideoXConfig) -> Path:
        from vidtok_ref.families.cogvideox.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def release(self, model: CogVideoX) -> ReleasedCogVideoX:
        from vidtok_ref.families.cogvideox.release import ReleasedCogVideoX

        return ReleasedCogVideoX(model)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.cogvideox.checkpoints import own_names

        return own_names(weights)


FAMILY = CogVideoXFamily()
