"""Normalisation by matrix products and 1x1 convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtok_export.lowering.conv import conv3d
from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.conv import kernel
from vidtok_ref.layers.norm import NORM_EPS, LayerNorm

# Up to so many channels a norm sees all pixels as one axis, which keeps channels outermost: engines that have them
# innermost work on so few numbers at a time (measured at 8 channels, three convolutions with norms and SiLU: OpenVINO
# takes 155 ms instead of 274, ONNX Runtime as long as before; at 16 channels 105 ms on OpenVINO, but 89 in five axes).
FEW_CHANNELS = 8


@lower_layer.register(LayerNorm)
class ChannelNorm(nn.Module):
    """LayerNorm over C without transposes or reductions: means are matrix products or 1x1 convolutions.

    centred: the mean over C is known to be zero already (`centre` folds that into the convolution in front).
    """

    def __init__(self, layer: LayerNorm, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred
        weight, bias = layer.norm.weight.detach(), layer.norm.bias.detach()
        channels = len(weight)
        self.few = channels <= FEW_CHANNELS
        average = torch.full((1, channels), 1 / channels, dtype=weight.dtype)
        axes = (1, -1, 1) if self.few else (1, -1, 1, 1, 1)
        self.weight = nn.Parameter(weight.view(axes), requires_grad=False)
        self.bias = nn.Parameter(bias.view(axes), requires_grad=False)
        if self.few:
            self.average = nn.Parameter(average, requires_grad=False)
            self.centring = nn.Parameter(torch.eye(channels, dtype=weight.dtype) - average, requires_grad=False)
        else:
            self.mean = conv3d(average[:, :, None, None, None], None)

    def forward(self, x: Tensor) -> Tensor:
        if self.few:
            flat = x.flatten(2)
            flat = flat if self.centred else self.centring @ flat
            return self._scaled(flat, self.average @ (flat * flat)).view_as(x)
        x = x if self.centred else x - self.mean(x)
        return self._scaled(x, self.mean(x * x))

    def _scaled(self, x: Tensor, variance: Tensor) -> Tensor:
        return x / torch.sqrt(variance + NORM_EPS) * self.weight + self.bias


def centre(conv: nn.Module) -> None:
    """Fold "subtract the mean over the output channels" into a convolution, in place."""
    weight, bias = kernel(conv)
    weight -= weight.mean(0, keepdim=True)
    bias -= bias.mean()
