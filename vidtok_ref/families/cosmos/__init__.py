"""Cosmos Tokenizer: described from NVIDIA/Cosmos-Tokenizer; its code is Apache-2.0, its weights are not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.cosmos.config import CONFIGS, CosmosConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.cosmos.model import Cosmos

T = TypeVar("T")


class CosmosFamily(Family):
    """Cosmos."""

    name = "cosmos"
    title = "Cosmos"
    licence = "NVIDIA Open Model License"
    config = CosmosConfig
    configs = CONFIGS

    def from_release(self, name: str, data: Mapping[str, Any]) -> CosmosConfig:
        return CosmosConfig.from_release(name, data)

    def make(self, config: CosmosConfig) -> Cosmos:
        from vidtok_ref.families.cosmos.model import Cosmos

        return Cosmos(config)

    def find_checkpoint(self, config: CosmosConfig) -> Path:
        from vidtok_ref.families.cosmos.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.cosmos.checkpoints import own_names

        return own_names(weights)


FAMILY = CosmosFamily()
