"""Residual blocks, whose normalisations are lowered together with the one layer that they see, if there is one."""

from __future__ import annotations

from vidtok_export.lowering.layer import lower_layer
from vidtok_export.lowering.norm import lower_behind
from vidtok_ref.layers.blocks import ResidualBlock


@lower_layer.register
def lower_block(block: ResidualBlock) -> ResidualBlock:
    """A block in place."""
    norms = {name: lower_behind(getattr(block, name), getattr(block, seen)) for name, seen in block.only_sees.items()}
    for name, child in block.named_children():
        block.add_module(name, norms.get(name) or lower_layer(child))
    return block
