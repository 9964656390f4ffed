"""Residual blocks, whose second norm finds its input centred."""

from __future__ import annotations

from typing import TypeVar

from vidtok_export.lowering.layer import lower_layer
from vidtok_export.lowering.norm import ChannelNorm, centre
from vidtok_ref.layers.blocks import SpatialBlock, TimeBlock
from vidtok_ref.layers.conv import FactorizedConv

Block = TypeVar("Block", SpatialBlock, TimeBlock)


@lower_layer.register(SpatialBlock)
@lower_layer.register(TimeBlock)
def lower_block(block: Block) -> Block:
    """A block in place: only its second norm sees the first convolution, so that one can centre its outputs."""
    conv = block.conv1
    centre(conv.time if isinstance(conv, FactorizedConv) else conv)
    block.add_module("norm2", ChannelNorm(block.norm2, centred=True))
    for name, child in block.named_children():
        block.add_module(name, lower_layer(child))
    return block
