"""Released weights of CogVideoX: where they are, and their names."""

from __future__ import annotations

from pathlib import Path

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.cogvideox.config import CogVideoXConfig

RELEASE = "THUDM/CogVideoX-2b"

# Ours by those of diffusers; what is not here is the same in both.
_OURS = {
    ".conv_shortcut.": ".nin_shortcut.",
    ".downsamplers.0.": ".downsampler.space.",
    ".upsamplers.0.": ".upsampler.space.",
}


def own_name(name: str) -> str:
    """Our name of a released tensor, or of one that has it already."""
    for released, ours in _OURS.items():
        name = name.replace(released, ours)
    return name


def find_checkpoint(config: CogVideoXConfig) -> Path:
    """Raises WeightsError with the ways to give weights: nothing is downloaded for this family."""
    raise WeightsError(
        f"no weights of {config.name}: give --checkpoint with the vae folder of {RELEASE} or of another CogVideoX, or "
        "the file diffusion_pytorch_model.safetensors in it; or give --seed N for untrained weights"
    )
