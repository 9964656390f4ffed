"""A whole network lowered."""

from __future__ import annotations

import copy

from torch import nn

# Imported for what they register.
from vidtok_export.lowering import attention, blocks, conv, norm, resample_space, resample_time  # noqa: F401
from vidtok_export.lowering.layer import lower_layer


def lower(coder: nn.Module) -> nn.Module:
    """A lowered copy of a reference Encoder or Decoder with the same `step`; the original stays as it is."""
    return lower_layer(copy.deepcopy(coder).eval().requires_grad_(False))
