"""Released weights of Wan: where they are, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from vidtok_ref.families.names import Rule, renamed

T = TypeVar("T")

# Names of the original checkpoint by those of diffusers; what is not here is the same in both.
_ORIGINAL: list[Rule] = [
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
_OURS: list[Rule] = [
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
    return renamed(name, [*(_ORIGINAL if original else []), *_OURS])


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of diffusers, of an original checkpoint, or of ours."""
    if "encoder.quant_conv.weight" in weights:  # as our own files have them
        return dict(weights)
    original = any(name.startswith("encoder.downsamples.") for name in weights)
    return {own_name(name, original=original): tensor for name, tensor in weights.items()}
