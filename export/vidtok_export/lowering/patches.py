"""Blocks of pixels as channels and back."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.patches import FromChannels, ToChannels

Conv = TypeVar("Conv", nn.Conv3d, nn.ConvTranspose3d)


@lower_layer.register
def to_channels(layer: ToChannels) -> nn.Conv3d:
    """ToChannels as a Conv3d whose stride is its kernel."""
    outputs, inputs = layer.kernel.shape[:2]
    return _fixed(nn.Conv3d, layer, inputs * layer.groups, outputs)


@lower_layer.register
def from_channels(layer: FromChannels) -> nn.ConvTranspose3d:
    """FromChannels as a ConvTranspose3d whose stride is its kernel."""
    inputs, outputs = layer.kernel.shape[:2]
    return _fixed(nn.ConvTranspose3d, layer, inputs, outputs * layer.groups)


def _fixed(kind: type[Conv], layer: ToChannels, c_in: int, c_out: int) -> Conv:
    """A convolution with the kernel of a layer, which is its stride, too."""
    _, _, time, height, width = layer.kernel.shape
    block = (time, height, width)
    conv = kind(c_in, c_out, block, stride=block, groups=layer.groups, bias=False)
    conv.weight = nn.Parameter(layer.kernel.clone(), requires_grad=False)
    return conv
