"""Open-Sora's video autoencoder: described from hpcaitech/Open-Sora, whose code is Apache-2.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidtok_ref.families.open_sora.config import CONFIGS, OpenSoraConfig
from vidtok_ref.families.registry import Family


class OpenSoraFamily(Family):
    """Open-Sora."""

    name = "open-sora"
    title = "Open-Sora"
    licence = "Apache-2.0"
    config = OpenSoraConfig
    configs = CONFIGS
    model = "OpenSora"
    published = "the folder hpcai-tech/OpenSora-VAE-v1.2 or a file in it"

    def check_weights(self, weights: Mapping[str, Any]) -> None:
        from vidtok_ref.families.open_sora.checkpoints import check_scale

        check_scale(weights)


FAMILY = OpenSoraFamily()
