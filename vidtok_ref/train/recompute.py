"""Gradient checkpointing: blocks keep their inputs only and run again on the way back."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from vidtok_ref.families.vidtok.model import VidTok


def recompute_blocks(model: VidTok) -> None:
    """Wrap every block of the levels and the middle parts; names, values and gradients stay what they are."""
    encoder, decoder = model.encoder, model.decoder
    blocks: list[nn.Module] = [encoder.mid, decoder.mid]
    for level in (*encoder.down, *encoder.down_temporal, *decoder.up, *decoder.up_temporal):
        blocks += list(level.block)
    for block in blocks:
        name = "step" if hasattr(block, "step") else "forward"
        # The blocks draw no random numbers, so there is no generator to rewind.
        rerun = partial(checkpoint, getattr(block, name), use_reentrant=False, preserve_rng_state=False)
        setattr(block, name, rerun)
