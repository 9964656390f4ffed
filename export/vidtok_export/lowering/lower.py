"""A whole network lowered."""

from __future__ import annotations

import copy

# Imported for what they register.
from vidtok_export.lowering import (  # noqa: F401
    attention,
    blocks,
    conv,
    norm,
    patches,
    resample_space,
    resample_time,
    transformer,
)
from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.streaming.parts import Coder


def lower(coder: Coder) -> Coder:
    """A lowered copy of a reference Encoder or Decoder with the same `step`; the original stays as it is."""
    lowered = copy.deepcopy(coder).eval().requires_grad_(False)
    lower_layer(lowered)
    return lowered
