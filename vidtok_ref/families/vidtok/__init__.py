"""VidTok (arXiv 2412.13061): 23 released models, and the paper's ablations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.errors import WeightsError
from vidtok_ref.families.registry import Family
from vidtok_ref.families.vidtok.variant import VARIANTS, Variant

if TYPE_CHECKING:
    from vidtok_ref.families.vidtok.model import VidTok

T = TypeVar("T")


class VidTokFamily(Family):
    """VidTok."""

    name = "vidtok"
    title = "VidTok"
    licence = "MIT"
    config = Variant
    configs = VARIANTS
    model = "VidTok"

    def find_checkpoint(self, config: Variant, option: str = "--checkpoint") -> Path:
        from vidtok_ref.families.vidtok.checkpoints import find_checkpoint

        return find_checkpoint(config, option)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        return dict(weights)

    def embedded(self, metadata: Mapping[str, str]) -> Variant | None:
        earlier = metadata.get("variant")  # files of the first edition, which knew one family
        return super().embedded(metadata) if earlier is None else self.config.from_dict(json.loads(earlier))

    def check_file(self, path: Path, config: Variant) -> None:
        """Versions 1.0 and 1.1 of a variant have the same tensors: only a released file name can tell them apart."""
        from vidtok_ref.families.vidtok.checkpoints import release_name

        named = next((v for v in VARIANTS.values() if release_name(v) == path.stem), None)
        if named is not None and named.name != config.name:
            raise WeightsError(
                f"{path} has the released name of {named.name}, not of {config.name}; give --variant {named.name}, "
                "or rename the file if its weights really are the other's"
            )

    def start_linear(self, model: VidTok, video: Any, log_variance: float) -> None:
        from vidtok_ref.families.vidtok.linear_start import start_from_linear

        start_from_linear(model, video, log_variance)

    def start_grown(self, model: VidTok, narrow: VidTok) -> None:
        from vidtok_ref.families.vidtok.growth import start_from_narrow

        start_from_narrow(model, narrow)


FAMILY = VidTokFamily()
