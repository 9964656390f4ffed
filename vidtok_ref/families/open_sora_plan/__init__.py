"""Open-Sora-Plan's CausalVAE: described from PKU-YuanGroup/Open-Sora-Plan, whose code is MIT-licensed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.open_sora_plan.config import CONFIGS, OpenSoraPlanConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.open_sora_plan.model import OpenSoraPlan

T = TypeVar("T")


class OpenSoraPlanFamily(Family):
    """Open-Sora-Plan."""

    name = "open-sora-plan"
    title = "Open-Sora-Plan"
    licence = "MIT"
    config = OpenSoraPlanConfig
    configs = CONFIGS

    def from_release(self, name: str, data: Mapping[str, Any]) -> OpenSoraPlanConfig:
        return OpenSoraPlanConfig.from_release(name, data)

    def make(self, config: OpenSoraPlanConfig) -> OpenSoraPlan:
        from vidtok_ref.families.open_sora_plan.model import OpenSoraPlan

        return OpenSoraPlan(config)

    def find_checkpoint(self, config: OpenSoraPlanConfig) -> Path:
        from vidtok_ref.families.open_sora_plan.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.open_sora_plan.checkpoints import own_name

        return {own_name(name): tensor for name, tensor in weights.items()}


FAMILY = OpenSoraPlanFamily()
