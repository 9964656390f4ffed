"""Causal video tokenizers in PyTorch: explicit-state references by family, weights and training.

`VARIANTS` has the released configurations of all families by name. They are described without PyTorch, which is loaded
with the first use of `build` or `VideoTokenizer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidtok_ref.errors import ModelError
from vidtok_ref.families import find_variant, variants

if TYPE_CHECKING:
    from vidtok_ref.families.build import build
    from vidtok_ref.tokenizer import VideoTokenizer

VARIANTS = variants()

__all__ = ["VARIANTS", "ModelError", "VideoTokenizer", "build", "find_variant"]


def __getattr__(name: str) -> Any:
    if name == "build":
        from vidtok_ref.families.build import build

        return build
    if name == "VideoTokenizer":
        from vidtok_ref.tokenizer import VideoTokenizer

        return VideoTokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
