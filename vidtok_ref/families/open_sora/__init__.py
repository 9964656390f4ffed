"""Open-Sora's video autoencoder: described from hpcaitech/Open-Sora, whose code is Apache-2.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.open_sora.config import CONFIGS, OpenSoraConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.open_sora.model import OpenSora

T = TypeVar("T")


class OpenSoraFamily(Family):
    """Open-Sora."""

    name = "open-sora"
    title = "Open-Sora"
    licence = "Apache-2.0"
    config = OpenSoraConfig
    configs = CONFIGS

    def from_release(self, name: str, data: Mapping[str, Any]) -> OpenSoraConfig:
        return OpenSoraConfig.from_release(name, data)

    def make(self, config: OpenSoraConfig) -> OpenSora:
        from vidtok_ref.families.open_sora.model import OpenSora

        return OpenSora(config)

    def find_checkpoint(self, config: OpenSoraConfig) -> Path:
        from vidtok_ref.families.open_sora.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.open_sora.checkpoints import own_names

        return own_names(weights)


FAMILY = OpenSoraFamily()
