"""Released weights of Open-Sora-Plan: where they are, and their names."""

from __future__ import annotations

import re
from pathlib import Path

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.open_sora_plan.config import OpenSoraPlanConfig

RELEASE = "LanguageBind/Open-Sora-Plan-v1.2.0"

# Ours by the released ones; what is not here is the same in both.
_OURS = [
    (r"^quant_conv\.", "encoder.quant_conv."),
    (r"^post_quant_conv\.", "decoder.post_quant_conv."),
    (r"\.downsample\.conv\.conv\.", ".downsample."),
    (r"\.upsample\.conv\.conv\.", ".upsample.conv."),
    (r"\.(conv_in|conv_out|conv1|conv2|nin_shortcut|q|k|v|proj_out|quant_conv|post_quant_conv)\.conv\.", r".\1."),
]


def own_name(name: str) -> str:
    """Our name of a released tensor, or of one that has it already."""
    for pattern, ours in _OURS:
        name = re.sub(pattern, ours, name)
    return name


def find_checkpoint(config: OpenSoraPlanConfig) -> Path:
    """Raises WeightsError with the ways to give weights: nothing is downloaded for this family."""
    raise WeightsError(
        f"no weights of {config.name}: give --checkpoint with the folder vae of {RELEASE} or a file in it; "
        "or give --seed N for untrained weights"
    )
