"""TAEHV, tiny autoencoders for the latents of large video models: described from madebyollin/taehv, which is MIT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.registry import Family
from vidtok_ref.families.taehv.config import CONFIGS, TaehvConfig

if TYPE_CHECKING:
    from vidtok_ref.families.taehv.model import Taehv


class TaehvFamily(Family):
    """TAEHV."""

    name = "taehv"
    title = "TAEHV"
    licence = "MIT"
    config = TaehvConfig
    configs = CONFIGS

    def make(self, config: TaehvConfig) -> Taehv:
        from vidtok_ref.families.taehv.model import Taehv

        return Taehv(config)

    def find_checkpoint(self, config: TaehvConfig) -> Path:
        raise WeightsError(
            f"no weights of {config.name}: give --checkpoint with {config.name}.pth of its release, or --seed N for "
            "untrained weights"
        )


FAMILY = TaehvFamily()
