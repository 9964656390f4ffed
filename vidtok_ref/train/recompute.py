"""Gradient checkpointing: blocks keep their inputs only and run again on the way back."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from vidtok_ref.layers.attention import Attention
from vidtok_ref.layers.blocks import SpatialBlock, TimeBlock


def recompute_blocks(model: nn.Module) -> None:
    """Wrap every residual block and every attention; names, values and gradients stay what they are."""
    for block in model.modules():
        if isinstance(block, SpatialBlock | TimeBlock | Attention):
            name = "step" if hasattr(block, "step") else "forward"
            # The blocks draw no random numbers, so there is no generator to rewind.
            rerun = partial(checkpoint, getattr(block, name), use_reentrant=False, preserve_rng_state=False)
            setattr(block, name, rerun)
