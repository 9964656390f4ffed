"""CV-VAE: described from AILab-CVC/CV-VAE, whose code has no licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.cv_vae.config import CONFIGS, CVVAEConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.cv_vae.model import CVVAE

T = TypeVar("T")


class CVVAEFamily(Family):
    """CV-VAE."""

    name = "cv-vae"
    title = "CV-VAE"
    licence = "unknown: the release names none; all rights reserved until its authors say otherwise"
    config = CVVAEConfig
    configs = CONFIGS

    def from_release(self, name: str, data: Mapping[str, Any]) -> CVVAEConfig:
        return CVVAEConfig.from_release(name, data)

    def make(self, config: CVVAEConfig) -> CVVAE:
        from vidtok_ref.families.cv_vae.model import CVVAE

        return CVVAE(config)

    def find_checkpoint(self, config: CVVAEConfig) -> Path:
        from vidtok_ref.families.cv_vae.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.cv_vae.checkpoints import own_name

        return {own_name(name): tensor for name, tensor in weights.items()}


FAMILY = CVVAEFamily()
