"""TAEHV, tiny autoencoders for the latents of large video models: described from madebyollin/taehv, which is MIT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from vidtok_ref.families.registry import Family
from vidtok_ref.families.taehv.config import CONFIGS, TaehvConfig

T = TypeVar("T")


class TaehvFamily(Family):
    """TAEHV."""

    name = "taehv"
    title = "TAEHV"
    licence = "MIT"
    config = TaehvConfig
    configs = CONFIGS
    model = "Taehv"
    published = "the file of its release, such as taehv.pth"

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        return dict(weights)


FAMILY = TaehvFamily()
