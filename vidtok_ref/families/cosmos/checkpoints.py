"""Released weights of Cosmos: where they are, and their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.cosmos.config import CosmosConfig

T = TypeVar("T")

# Ours by the released ones.
_OURS = [
    (r"^quant_conv\.", "encoder.quant_conv."),
    (r"^post_quant_conv\.", "decoder.post_quant_conv."),
    (r"\.(conv_in|conv_out|conv1|conv2)\.0\.conv3d\.", r".\1.space."),
    (r"\.(conv_in|conv_out|conv1|conv2)\.1\.conv3d\.", r".\1.time."),
    (r"\.(q|k|v|proj_out)\.conv3d\.", r".\1.conv."),
    (r"\.downsample\.conv1\.", ".downsample.conv."),
    (r"\.upsample\.conv2\.", ".upsample.conv."),
    (r"\.(down|up)sample\.conv3\.", r".\1sample.point."),
    (r"\.conv3d\.", "."),
]
# Constants of patching and quantization, which archives of TorchScript have beside the weights.
_CONSTANT = re.compile(
    r"(encoder\.|decoder\.un)patcher3d\.(wavelets|_arange|patch_size_buffer)"
    r"|(inv_quant\.)?quantizer\.(_levels|_basis|implicit_codebook)"
)


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of released ones or of ours; without constants and those that the release never uses."""
    if not any(".conv3d." in name for name in weights):
        return dict(weights)
    deepest = max((int(m[1]) for name in weights if (m := re.match(r"decoder\.up\.(\d+)\.", name))), default=0)
    used = re.compile(rf"encoder\.down\.0\.downsample\.conv[13]\.|decoder\.up\.{deepest}\.upsample\.conv[23]\.")
    ours = {}
    for name, tensor in weights.items():
        if _CONSTANT.fullmatch(name) or ("sample." in name and not used.match(name)):
            continue
        for pattern, mine in _OURS:
            name = re.sub(pattern, mine, name)
        ours[name] = tensor
    return ours


def find_checkpoint(config: CosmosConfig) -> Path:
    """Raises WeightsError with the ways to give weights: nothing is downloaded for this family."""
    raise WeightsError(
        f"no weights of {config.name}: give --checkpoint with the published autoencoder.jit, a folder with encoder.jit "
        "and decoder.jit, or a .safetensors or PyTorch file of its state dict; or give --seed N for untrained weights"
    )
