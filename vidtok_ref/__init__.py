"""The VidTok model (arXiv 2412.13061) in PyTorch: explicit-state reference, weights and training."""

from vidtok_ref.errors import ModelError
from vidtok_ref.model import VidTok, build
from vidtok_ref.variant import VARIANTS, Variant, find_variant

__all__ = ["VARIANTS", "ModelError", "Variant", "VidTok", "build", "find_variant"]
