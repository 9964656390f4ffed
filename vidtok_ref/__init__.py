"""The VidTok model (arXiv 2412.13061) in PyTorch: explicit-state reference, weights and training."""

from vidtok_ref.errors import ModelError
from vidtok_ref.load import build
from vidtok_ref.model import VidTok
from vidtok_ref.variant import VARIANTS, Variant, find_variant

__all__ = ["VARIANTS", "ModelError", "Variant", "VidTok", "build", "find_variant"]
