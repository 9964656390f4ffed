"""Wan 2.1 and 2.2: described from the diffusers class `AutoencoderKLWan`; code and weights are Apache-2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidtok_ref.families.registry import Family
from vidtok_ref.families.wan.config import CONFIGS, WanConfig

if TYPE_CHECKING:
    from vidtok_ref.families.wan.model import Wan
    from vidtok_ref.families.wan.release import ReleasedWan


class WanFamily(Family):
    """Wan."""

    name = "wan"
    title = "Wan"
    licence = "Apache-2.0"
    config = WanConfig
    configs = CONFIGS
    model = "Wan"
    published = (
        "the vae folder of Wan-AI/Wan2.1-T2V-1.3B-Diffusers (wan-2.1) or of Wan-AI/Wan2.2-TI2V-5B-Diffusers (wan-2.2), "
        "the file diffusion_pytorch_model.safetensors in it, or the original Wan2.1_VAE.pth or Wan2.2_VAE.pth"
    )
    release_class = "AutoencoderKLWan"
    release_library = "diffusers"

    def release(self, model: Wan) -> ReleasedWan:
        from vidtok_ref.families.wan.release import ReleasedWan

        return ReleasedWan(model)


FAMILY = WanFamily()
