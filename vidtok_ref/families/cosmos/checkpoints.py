"""Released weights of Cosmos: where they are, and their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from vidtok_ref.families.names import Rule, renamed

T = TypeVar("T")

# Ours by the released ones.
_OURS: list[Rule] = [
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
        ours[renamed(name, _OURS)] = tensor
    return ours
