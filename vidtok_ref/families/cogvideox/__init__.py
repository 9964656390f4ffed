"""CogVideoX's tokenizer: described from the diffusers class `AutoencoderKLCogVideoX`; that code is Apache-2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidtok_ref.families.cogvideox.config import CONFIGS, CogVideoXConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.cogvideox.model import CogVideoX
    from vidtok_ref.families.cogvideox.release import ReleasedCogVideoX


class CogVideoXFamily(Family):
    """CogVideoX."""

    name = "cogvideox"
    title = "CogVideoX"
    licence = "Apache-2.0 (weights of CogVideoX-2b; those of 5b have the CogVideoX licence)"
    config = CogVideoXConfig
    configs = CONFIGS
    model = "CogVideoX"
    published = (
        "the vae folder of THUDM/CogVideoX-2b or of another CogVideoX, the file "
        "diffusion_pytorch_model.safetensors in it, or the original 3d-vae.pt"
    )
    release_class = "AutoencoderKLCogVideoX"
    release_library = "diffusers"

    def release(self, model: CogVideoX) -> ReleasedCogVideoX:
        from vidtok_ref.families.cogvideox.release import ReleasedCogVideoX

        return ReleasedCogVideoX(model)


FAMILY = CogVideoXFamily()
