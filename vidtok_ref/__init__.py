"""The VidTok model (arXiv 2412.13061) in PyTorch: explicit-state reference, weights and training.

Variants are described without PyTorch; it is loaded with the first use of `build` or `VidTok`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidtok_ref.errors import ModelError
from vidtok_ref.families.vidtok.variant import VARIANTS, Variant, find_variant

if TYPE_CHECKING:
    from vidtok_ref.families.vidtok.load import build
    from vidtok_ref.families.vidtok.model import VidTok

__all__ = ["VARIANTS", "ModelError", "Variant", "VidTok", "build", "find_variant"]


def __getattr__(name: str) -> Any:
    if name == "build":
        from vidtok_ref.families.vidtok.load import build

        return build
    if name == "VidTok":
        from vidtok_ref.families.vidtok.model import VidTok

        return VidTok
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
