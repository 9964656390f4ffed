"""Released weights of CV-VAE: where they are, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from vidtok_ref.families.names import Rule, renamed

T = TypeVar("T")

# Ours by the released ones; what is not here is the same in both.
_OURS: list[Rule] = [
    (r"\.downsample\.conv\.", ".downsample."),
    (r"^decoder\.mid\.attn_1\.(norm|q|k|v|proj_out)_t\.", r"decoder.mid.attn_1.time.\1."),
    (r"^decoder\.mid\.attn_1\.(norm|q|k|v|proj_out)\.", r"decoder.mid.attn_1.space.\1."),
    (r"^decoder\.mid\.attn_1\.time\.norm\.(?!norm\.)", "decoder.mid.attn_1.time.norm.norm."),
]


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of released ones or of ours."""
    return {renamed(name, _OURS): tensor for name, tensor in weights.items()}
