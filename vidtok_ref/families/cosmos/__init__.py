"""Cosmos Tokenizer: described from NVIDIA/Cosmos-Tokenizer; its code is Apache-2.0, its weights are not."""

from __future__ import annotations

from vidtok_ref.families.cosmos.config import CONFIGS, CosmosConfig
from vidtok_ref.families.registry import Family


class CosmosFamily(Family):
    """Cosmos."""

    name = "cosmos"
    title = "Cosmos"
    licence = "NVIDIA Open Model License"
    config = CosmosConfig
    configs = CONFIGS
    model = "Cosmos"
    published = (
        "the published autoencoder.jit, a folder with encoder.jit and decoder.jit, or a .safetensors or PyTorch file "
        "of its state dict"
    )


FAMILY = CosmosFamily()
