"""Released weights of CV-VAE: where they are, and their names."""

from __future__ import annotations

import re
from pathlib import Path

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.cv_vae.config import CVVAEConfig

RELEASE = "AILab-CVC/CV-VAE"

# Ours by the released ones; what is not here is the same in both.
_OURS = [
    (r"\.downsample\.conv\.", ".downsample."),
    (r"^decoder\.mid\.attn_1\.(norm|q|k|v|proj_out)_t\.", r"decoder.mid.attn_1.time.\1."),
    (r"^decoder\.mid\.attn_1\.(norm|q|k|v|proj_out)\.", r"decoder.mid.attn_1.space.\1."),
    (r"^decoder\.mid\.attn_1\.time\.norm\.(?!norm\.)", "decoder.mid.attn_1.time.norm.norm."),
]


def own_name(name: str) -> str:
    """Our name of a released tensor, or of one that has it already."""
    for pattern, ours in _OURS:
        name = re.sub(pattern, ours, name)
    return name


def find_checkpoint(config: CVVAEConfig) -> Path:
    """Raises WeightsError with the ways to give weights: nothing is downloaded for this family."""
    raise WeightsError(
        f"no weights of {config.name}: give --checkpoint with the folder vae3d of {RELEASE} or a file in it; "
        "or give --seed N for untrained weights"
    )
