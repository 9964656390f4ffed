"""Released weights of Open-MAGVIT2: where they are, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from vidtok_ref.families.names import Rule, renamed

T = TypeVar("T")

# Ours by the released ones.
_OURS: list[Rule] = [
    (r"^decoder\.conv_in\.conv_1\.", "decoder.conv_in.conv."),
    (r"\.conv_1\.", "."),
    (r"^decoder\.mid_block\.(\d+)\.", r"decoder.mid_block.block.\1."),
    (r"^decoder\.adaptive\.(\d+)\.", r"decoder.up.\1.adaptive."),
    (r"\.upsample\.conv1\.", ".upsample.conv."),
]
_AVERAGED = "model_ema."


def own_names(weights: Mapping[str, T]) -> dict[str, T]:
    """Tensors by our names, of released ones or of ours; the running average of each where there is one.

    The release reconstructs with its running averages, whose names lack the dots.
    """
    ours = {}
    for name, tensor in weights.items():
        if name.startswith(_AVERAGED):
            continue
        used = weights.get(_AVERAGED + name.replace(".", ""), tensor)
        ours[renamed(name, _OURS)] = used
    return ours
