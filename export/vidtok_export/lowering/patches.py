"""Blocks of pixels as channels and back."""

from __future__ import annotations

from torch import nn

from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.patches import FromChannels, ToChannels


@lower_layer.register
def to_channels(layer: ToChannels) -> nn.Conv3d:
    """ToChannels as a Conv3d whose stride is its kernel."""
    kernel = layer.kernel
    conv = nn.Conv3d(
        kernel.shape[1] * layer.groups,
        kernel.shape[0],
        tuple(kernel.shape[2:]),  # type: ignore[arg-type]
        stride=tuple(kernel.shape[2:]),  # type: ignore[arg-type]
        groups=layer.groups,
        bias=False,
    )
    conv.weight = nn.Parameter(kernel.clone(), requires_grad=False)
    return conv


@lower_layer.register
def from_channels(layer: FromChannels) -> nn.ConvTranspose3d:
    """FromChannels as a ConvTranspose3d whose stride is its kernel."""
    kernel = layer.kernel
    conv = nn.ConvTranspose3d(
        kernel.shape[0],
        kernel.shape[1] * layer.groups,
        tuple(kernel.shape[2:]),  # type: ignore[arg-type]
        stride=tuple(kernel.shape[2:]),  # type: ignore[arg-type]
        groups=layer.groups,
        bias=False,
    )
    conv.weight = nn.Parameter(kernel.clone(), requires_grad=False)
    return conv
