"""Open-MAGVIT2's video tokenizer: described from TencentARC/SEED-Voken, which is Apache-2.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.magvit.config import CONFIGS, MagvitConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.magvit.model import Magvit

T = TypeVar("T")


class MagvitFamily(Family):
    """Open-MAGVIT2."""

    name = "magvit"
    title = "Open-MAGVIT2"
    licence = "Apache-2.0"
    config = MagvitConfig
    configs = CONFIGS

    def from_release(self, name: str, data: Mapping[str, Any]) -> MagvitConfig:
        return MagvitConfig.from_release(name, data)

    def make(self, config: MagvitConfig) -> Magvit:
        from vidtok_ref.families.magvit.model import Magvit

        return Magvit(config)

    def find_checkpoint(self, config: MagvitConfig) -> Path:
        from vidtok_ref.families.magvit.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.magvit.checkpoints import own_names

        return own_names(weights)


FAMILY = MagvitFamily()
