"""Released weights of Wan: where they are, and their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.wan.config import WanConfig

# The repository whose folder `vae` holds the weights of a configuration, and the original file.
_RELEASES = {
    "wan-2.1": ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "Wan2.1_VAE.pth"),
    "wan-2.2": ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", "Wan2.2_VAE.pth"),
}

# Names of the original checkpoint by those of diffusers; what is not here is the same in both.
_ORIGINAL: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    # Where levels are lists in a list, the resampling is the last of each.
    (r"^encoder\.downsamples\.(\d+)\.downsamples\.\d+\.(?=resample|time_conv)", r"encoder.down_blocks.\1.downsampler."),
    (r"^decoder\.upsamples\.(\d+)\.upsamples\.\d+\.(?=resample|time_conv)", r"decoder.up_blocks.\1.upsampler."),
    (r"^encoder\.downsamples\.(\d+)\.downsamples\.", r"encoder.down_blocks.\1.resnets."),
    (r"^decoder\.upsamples\.(\d+)\.upsamples\.", r"decoder.up_blocks.\1.resnets."),
    (r"^encoder\.downsamples\.", "encoder.down_blocks."),
    (
        r"^decoder\.upsamples\.(\d+)\.",
        lambda m: (
            f"decoder.up_blocks.{int(m[1]) // 4}."
            + ("upsamplers.0." if int(m[1]) % 4 == 3 else f"resnets.{int(m[1]) % 4}.")
        ),
    ),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
]
# Ours by those of diffusers.
_OURS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^quant_conv\.", "encoder.quant_conv."),
    (r"^post_quant_conv\.", "decoder.post_quant_conv."),
    (r"\.norm_out\.", ".head.norm."),
    (r"\.conv_out\.", ".head.conv.conv."),
    (r"\.(conv_in|conv1|conv2)\.", r".\1.conv."),
    (r"\.mid_block\.resnets\.0\.", ".mid_block.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid_block.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid_block.attention."),
    (r"\.upsamplers\.0\.", ".upsampler."),
    (r"\.resample\.1\.", ".resample.conv."),
    (r"\.time_conv\.", ".time.time_conv."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
]


def own_name(name: str, *, original: bool) -> str:
    """Our name of a released tensor; original: it is named as in the `.pth` files, not as in diffusers."""
    for pattern, ours in [*(_ORIGINAL if original else []), *_OURS]:
        name = re.sub(pattern, ours, name)
    return name


def find_checkpoint(config: WanConfig) -> Path:
    """Raises WeightsError with the ways to give weights: nothing is downloaded for this family."""
    folder, file = _RELEASES.get(config.name, _RELEASES["wan-2.1"])
    raise WeightsError(
        f"no weights of {config.name}: give --checkpoint with the vae folder of {folder}, the file "
        f"diffusion_pytorch_model.safetensors in it, or the original {file}; "
        "or give --seed N for untrained weights"
    )
