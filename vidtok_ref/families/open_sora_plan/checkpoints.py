"""Released weights of Open-Sora-Plan: where they are, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from vidtok_ref.families.names import Rule, renamed

T = TypeVar("T")

# Ours by the released ones; what is not here is the same in both.
_OURS: list[Rule] = [
    (r"^quant_conv\.", "encoder.quant_conv."),
    (r"^post_quant_conv\.", "decoder.post_quant_conv."),
    (r"\.downsample\.conv\.conv\.", ".downsample."),
    (r"\.upsample\.conv\.conv\.", ".upsample.conv."),
    (r"\.(conv_in|conv_out|conv1|conv2|nin_shortcut|q|k|v|proj_out|quant_conv|post_quant_conv)\.conv\.", r".\1."),
]


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of released ones or of ours."""
    return {renamed(name, _OURS): tensor for name, tensor in weights.items()}
