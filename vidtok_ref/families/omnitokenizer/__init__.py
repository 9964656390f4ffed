"""OmniTokenizer's video VQ: described from FoundationVision/OmniTokenizer, which is MIT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vidtok_ref.families.omnitokenizer.config import CONFIGS, OmniTokenizerConfig
from vidtok_ref.families.registry import Family

if TYPE_CHECKING:
    from vidtok_ref.families.omnitokenizer.model import OmniTokenizer

T = TypeVar("T")


class OmniTokenizerFamily(Family):
    """OmniTokenizer."""

    name = "omnitokenizer"
    title = "OmniTokenizer"
    licence = "MIT"
    config = OmniTokenizerConfig
    configs = CONFIGS

    def from_release(self, name: str, data: Mapping[str, Any]) -> OmniTokenizerConfig:
        return OmniTokenizerConfig.from_release(name, data)

    def make(self, config: OmniTokenizerConfig) -> OmniTokenizer:
        from vidtok_ref.families.omnitokenizer.model import OmniTokenizer

        return OmniTokenizer(config)

    def find_checkpoint(self, config: OmniTokenizerConfig) -> Path:
        from vidtok_ref.families.omnitokenizer.checkpoints import find_checkpoint

        return find_checkpoint(config)

    def own_names(self, weights: Mapping[str, T]) -> dict[str, T]:
        from vidtok_ref.families.omnitokenizer.checkpoints import own_names

        return own_names(weights)


FAMILY = OmniTokenizerFamily()
