"""Open-Sora's video autoencoder: described from hpcaitech/Open-Sora, whose code is Apache-2.0."""

from __future__ import annotations

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


FAMILY = OpenSoraFamily()
