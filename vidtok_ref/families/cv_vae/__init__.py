"""CV-VAE: described from AILab-CVC/CV-VAE, whose code has no licence."""

from __future__ import annotations

from vidtok_ref.families.cv_vae.config import CONFIGS, CVVAEConfig
from vidtok_ref.families.registry import Family


class CVVAEFamily(Family):
    """CV-VAE."""

    name = "cv-vae"
    title = "CV-VAE"
    licence = "unknown: the release names none; all rights reserved until its authors say otherwise"
    config = CVVAEConfig
    configs = CONFIGS
    model = "CVVAE"
    published = "the folder vae3d of AILab-CVC/CV-VAE or a file in it"
    release_class = "CVVAEModel"


FAMILY = CVVAEFamily()
