"""Open-Sora-Plan's CausalVAE: described from PKU-YuanGroup/Open-Sora-Plan, whose code is MIT-licensed."""

from __future__ import annotations

from vidtok_ref.families.open_sora_plan.config import CONFIGS, OpenSoraPlanConfig
from vidtok_ref.families.registry import Family


class OpenSoraPlanFamily(Family):
    """Open-Sora-Plan."""

    name = "open-sora-plan"
    title = "Open-Sora-Plan"
    licence = "MIT"
    config = OpenSoraPlanConfig
    configs = CONFIGS
    model = "OpenSoraPlan"
    published = "the folder vae of LanguageBind/Open-Sora-Plan-v1.2.0 or a file in it"
    release_class = "CausalVAEModel"


FAMILY = OpenSoraPlanFamily()
