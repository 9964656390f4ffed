"""Released weights of Open-Sora: where they are, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.names import Rule, renamed
from vidtok_ref.families.open_sora.config import LATENT_MEAN, LATENT_STD

T = TypeVar("T")

# Ours by the released ones; what is not here is the same in both.
_OURS: list[Rule] = [
    (r"^spatial_vae\.module\.(encoder|decoder)\.", r"\1.space."),
    (r"^spatial_vae\.module\.quant_conv\.", "encoder.space.quant_conv."),
    (r"^spatial_vae\.module\.post_quant_conv\.", "decoder.space.post_quant_conv."),
    (r"\.space\.down_blocks\.", ".space.down."),
    (r"\.space\.up_blocks\.", ".space.up."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.resnets\.", ".block."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.downsamplers\.0\.", ".downsample."),
    (r"\.upsamplers\.0\.", ".upsample."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"^temporal_vae\.(encoder|decoder)\.", r"\1.time."),
    (r"^temporal_vae\.quant_conv\.conv\.", "encoder.time.quant_conv."),
    (r"^temporal_vae\.post_quant_conv\.conv\.", "decoder.time.post_quant_conv."),
    (r"^decoder\.time\.conv1\.conv\.", "decoder.time.conv_in."),
    (r"^encoder\.time\.conv2\.conv\.", "encoder.time.conv_out."),
    (r"\.time\.norm1\.", ".time.norm_out."),
    (r"^encoder\.time\.block_res_blocks\.(\d+)\.", r"encoder.time.down.\1.block."),
    (r"^decoder\.time\.block_res_blocks\.(\d+)\.", r"decoder.time.up.\1.block."),
    (r"^encoder\.time\.conv_blocks\.(\d+)\.conv\.", r"encoder.time.down.\1.downsample."),
    (r"^decoder\.time\.conv_blocks\.(\d+)\.conv\.", lambda m: f"decoder.time.up.{int(m[1]) + 1}.upsample."),
    (r"\.time\.res_blocks\.", ".time.mid."),
    (r"\.conv3\.conv\.", ".nin_shortcut."),
    (r"\.time\.(.*)(conv_in|conv_out|conv1|conv2)\.conv\.", r".time.\1\2."),
]
# What the release keeps among its weights and we in the description of its latents.
_SCALE = {"shift": LATENT_MEAN, "scale": LATENT_STD}


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of released ones or of ours; without the scale of their latents."""
    return {renamed(name, _OURS): tensor for name, tensor in weights.items() if name not in _SCALE}


def check_scale(weights: Mapping[str, Tensor]) -> None:
    """Raise WeightsError where the latents of released weights have another scale."""
    for name, ours in _SCALE.items():
        found = weights.get(name)
        # A checkpoint in half precision has it rounded.
        if found is not None and not torch.equal(found.flatten(), torch.tensor(ours, dtype=found.dtype)):
            raise WeightsError(f"{name} of these weights is {found.flatten().tolist()}, not {list(ours)}")
