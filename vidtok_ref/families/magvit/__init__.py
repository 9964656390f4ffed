"""Open-MAGVIT2's video tokenizer: described from TencentARC/SEED-Voken, which is Apache-2.0."""

from __future__ import annotations

from vidtok_ref.families.magvit.config import CONFIGS, MagvitConfig
from vidtok_ref.families.registry import Family


class MagvitFamily(Family):
    """Open-MAGVIT2."""

    name = "magvit"
    title = "Open-MAGVIT2"
    licence = "Apache-2.0"
    config = MagvitConfig
    configs = CONFIGS
    model = "Magvit"
    published = "video_128_262144.ckpt of Open-MAGVIT2, or a .safetensors file of its state dict"


FAMILY = MagvitFamily()
