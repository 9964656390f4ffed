"""Fewer and more pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_export.lowering.conv import conv3d
from vidtok_export.lowering.doubling_taps import doubling_taps
from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.conv import Beyond
from vidtok_ref.layers.resample import NearestUp3d, PooledDown, SharpenedUp, SpatialDown, SpatialUp


def behind(point: nn.Conv3d, conv: nn.Conv3d, identity: Tensor) -> tuple[Tensor, Tensor]:
    """Kernel `O I 3 3` and bias of a 1x1x1 convolution behind the sum of another one and of the input itself.

    identity: by what the input is multiplied under each tap, `3 3`.
    """
    mix = point.weight.detach().flatten(1)
    weight = conv.weight.detach().squeeze(2).clone()
    diagonal = torch.arange(len(weight))
    weight[diagonal, diagonal] += identity.to(weight)
    assert point.bias is not None
    assert conv.bias is not None
    return torch.einsum("om,mihw->oihw", mix, weight), mix @ conv.bias.detach() + point.bias.detach()


class FoldedSpatialDown(nn.Module):
    """A 3x3 convolution (kernel `O I 3 3`) of stride 2, padded on the right and bottom only, as a strided Conv3d."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.conv = conv3d(weight.unsqueeze(2), bias, stride=(1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y


class TransposedSpatialUp(nn.Module):
    """Nearest x2 and a convolution (kernel `O I T 3 3`) as one transposed one: 4/9 of the work, no phases to mix."""

    def __init__(self, weight: Tensor, bias: Tensor, beyond: Beyond | None = None) -> None:
        super().__init__()
        self.beyond = beyond or Beyond(0)
        c_out, c_in, time = weight.shape[:3]
        for axis in (3, 4):
            weight = torch.stack(doubling_taps(*weight.unbind(axis)), axis)
        self.conv = nn.ConvTranspose3d(c_in, c_out, (time, 4, 4), stride=(1, 2, 2), padding=(time - 1, 1, 1))
        # What a convolution has on one side in time, a transposed one has on the other.
        self.conv.weight = nn.Parameter(weight.flip(2).transpose(0, 1).contiguous(), requires_grad=False)
        self.conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.beyond.around(x))
        return y


@lower_layer.register
def spatial_down(layer: SpatialDown) -> FoldedSpatialDown:
    """SpatialDown."""
    return FoldedSpatialDown(layer.conv.weight, layer.conv.bias)


@lower_layer.register
def pooled_down(layer: PooledDown) -> FoldedSpatialDown:
    """PooledDown, whose means are a quarter under each of four taps."""
    quarters = F.pad(torch.full((2, 2), 0.25), (0, 1, 0, 1))
    return FoldedSpatialDown(*behind(layer.point, layer.conv, quarters))


@lower_layer.register
def spatial_up(layer: SpatialUp) -> TransposedSpatialUp:
    """SpatialUp."""
    assert layer.conv.bias is not None
    return TransposedSpatialUp(layer.conv.weight.detach().unsqueeze(2), layer.conv.bias)


@lower_layer.register
def sharpened_up(layer: SharpenedUp) -> TransposedSpatialUp:
    """SharpenedUp."""
    centre = F.pad(torch.ones(1, 1), (1, 1, 1, 1))
    weight, bias = behind(layer.point, layer.conv, centre)
    return TransposedSpatialUp(weight.unsqueeze(2), bias)


@lower_layer.register
def nearest_up(layer: NearestUp3d) -> TransposedSpatialUp:
    """NearestUp3d."""
    assert layer.conv.bias is not None
    return TransposedSpatialUp(layer.conv.weight.detach(), layer.conv.bias, layer.conv.beyond)
