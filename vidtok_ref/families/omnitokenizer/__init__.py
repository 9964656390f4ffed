"""OmniTokenizer's video VQ: described from FoundationVision/OmniTokenizer, which is MIT."""

from __future__ import annotations

from vidtok_ref.families.omnitokenizer.config import CONFIGS, OmniTokenizerConfig
from vidtok_ref.families.registry import Family


class OmniTokenizerFamily(Family):
    """OmniTokenizer."""

    name = "omnitokenizer"
    title = "OmniTokenizer"
    licence = "MIT"
    config = OmniTokenizerConfig
    configs = CONFIGS
    model = "OmniTokenizer"
    published = "imagenet_k600.ckpt or imagenet_ucf.ckpt of its release, or a .safetensors file of such a state dict"


FAMILY = OmniTokenizerFamily()
