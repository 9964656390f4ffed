"""Convolutions as Conv3d."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.conv import ClipConv3d, FrameConv2d, PointLinear, TimeConv1d, kernel
from vidtok_ref.streaming.state import Call, State


def conv3d(weight: Tensor, bias: Tensor | None, **options: Any) -> nn.Conv3d:
    """A Conv3d with the given kernel `O I T H W`."""
    kernel = tuple(weight.shape[2:])
    conv = nn.Conv3d(weight.shape[1], weight.shape[0], kernel, bias=bias is not None, **options)  # type: ignore[arg-type]
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv


@lower_layer.register(TimeConv1d)
class PixelConv1d(nn.Module):
    """TimeConv1d as a Conv3d with kernel 3x1x1."""

    def __init__(self, layer: TimeConv1d) -> None:
        super().__init__()
        weight, bias = kernel(layer)
        self.conv = conv3d(weight[..., None, None], bias, stride=(layer.stride, 1, 1))
        self.cache = layer.cache

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.cache.step(x, state, call)
        return self.conv(x), remembered


@lower_layer.register
def point_linear(layer: PointLinear) -> nn.Conv3d:
    """PointLinear as a Conv3d with kernel 1x1x1."""
    return conv3d(layer.weight[:, :, None, None, None], layer.bias)


@lower_layer.register
def clip_conv(layer: ClipConv3d) -> ClipConv3d:
    """ClipConv3d with a bias in any case: `winograd` writes out only convolutions that have one."""
    if layer.bias is None:
        layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_channels), requires_grad=False)
    return layer


@lower_layer.register
def frame_conv(layer: FrameConv2d) -> nn.Conv3d:
    """FrameConv2d as a Conv3d with kernel 1 x k x k."""
    p = layer.padding
    assert isinstance(p, tuple)
    return conv3d(layer.weight.unsqueeze(2), layer.bias, padding=(0, *p), stride=(1, *layer.stride))
