"""Normalisation by matrix products and 1x1 convolutions."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor, nn

from vidtok_export.lowering.conv import conv3d
from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.conv import FactorizedConv, kernel
from vidtok_ref.layers.norm import (
    NORM_EPS,
    AdaptiveNorm,
    FrameGroupNorm,
    FrameNorm,
    Guided,
    GuidedNorm,
    LayerNorm,
    RMSNorm,
    stretched,
)

# Up to so many channels a norm sees all pixels as one axis, which keeps channels outermost: engines that have them
# innermost work on so few numbers at a time (measured at 8 channels, three convolutions with norms and SiLU: OpenVINO
# takes 155 ms instead of 274, ONNX Runtime as long as before; at 16 channels 105 ms on OpenVINO, but 89 in five axes).
FEW_CHANNELS = 8


class ChannelNorm(nn.Module):
    """A normalisation over C without transposes or reductions: means are matrix products or 1x1 convolutions.

    It divides `N C T H W` by the root of its mean square plus `eps` and multiplies with `weight`. bias: what is added
    then, if anything. centres: the mean over C is subtracted first. floor: the least that is divided by.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, eps: float = 0.0, *, centres: bool = False, floor: float = 0.0
    ) -> None:
        super().__init__()
        channels = len(weight)
        self.eps = eps
        self.floor = floor
        self.centres = centres
        self.few = channels <= FEW_CHANNELS
        average = torch.full((1, channels), 1 / channels, dtype=weight.dtype)
        axes = (1, -1, 1) if self.few else (1, -1, 1, 1, 1)
        self.weight = nn.Parameter(weight.detach().reshape(axes), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().reshape(axes), requires_grad=False)
        if self.few:
            self.average = nn.Parameter(average, requires_grad=False)
            self.centring = nn.Parameter(torch.eye(channels, dtype=weight.dtype) - average, requires_grad=False)
        else:
            self.mean = conv3d(average[:, :, None, None, None], None)

    def forward(self, x: Tensor) -> Tensor:
        if self.few:
            flat = x.flatten(2)
            flat = self.centring @ flat if self.centres else flat
            return self._scaled(flat, self.average @ (flat * flat)).view_as(x)
        x = x - self.mean(x) if self.centres else x
        return self._scaled(x, self.mean(x * x))

    def _scaled(self, x: Tensor, variance: Tensor) -> Tensor:
        root = torch.sqrt(variance + self.eps if self.eps else variance)
        y = x / (root.clamp(min=self.floor) if self.floor else root) * self.weight
        return y if self.bias is None else y + self.bias


@lower_layer.register(FrameNorm)
class WholeFrameNorm(nn.Module):
    """FrameNorm as means of a frame, without moving axes."""

    def __init__(self, layer: FrameNorm) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(t.detach().reshape(1, -1, 1, 1, 1), requires_grad=False)
            for t in (layer.norm.weight, layer.norm.bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean((1, 3, 4), keepdim=True)
        variance = (x * x).mean((1, 3, 4), keepdim=True)
        return x / torch.sqrt(variance + NORM_EPS) * self.weight + self.bias


@lower_layer.register
def layer_norm(layer: LayerNorm) -> ChannelNorm:
    """LayerNorm, which subtracts the mean."""
    return ChannelNorm(layer.norm.weight, layer.norm.bias, layer.norm.eps, centres=True)


@lower_layer.register
def rms_norm(layer: RMSNorm) -> ChannelNorm:
    """RMSNorm; its floor of 1e-12 is that of the root of a sum of C squares, not of their mean."""
    return ChannelNorm(layer.gamma.flatten(), None, floor=1e-12 / len(layer.gamma) ** 0.5)


class GroupScale(nn.Module):
    """The first half of a group normalisation of `N C T H W`: the mean subtracted, and 1 / root of the variance.

    Both are those of all frames, or of each frame on its own.
    """

    def __init__(self, layer: nn.GroupNorm) -> None:
        super().__init__()
        self.axes = (3, 4) if isinstance(layer, FrameGroupNorm) else (2, 3, 4)
        self.eps = layer.eps
        share = torch.full([layer.num_channels // layer.num_groups] * 2, layer.num_groups / layer.num_channels)
        share = share if layer.weight is None else share.to(layer.weight)
        average = torch.block_diag(*[share] * layer.num_groups)  # over the channels of a group
        self.average = nn.Parameter(average, requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x - self._mean(x)
        return x, torch.rsqrt(self._mean(x * x) + self.eps)

    def _mean(self, x: Tensor) -> Tensor:
        means = self.average @ x.mean(self.axes, keepdim=True).flatten(2)
        return means[..., None, None]


@lower_layer.register(nn.GroupNorm)
class PlainGroupNorm(nn.Module):
    """A group normalisation in plain operators, which see frames and pixels of any number."""

    def __init__(self, layer: nn.GroupNorm) -> None:
        super().__init__()
        self.scale = GroupScale(layer)
        self.weight, self.bias = (
            nn.Parameter(p.detach().reshape(1, -1, 1, 1, 1), requires_grad=False) for p in (layer.weight, layer.bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        x, scale = self.scale(x)
        normed: Tensor = x * (scale * self.weight) + self.bias
        return normed


@lower_layer.register(GuidedNorm)
class FoldedGuidedNorm(nn.Module):
    """GuidedNorm with the weights of its group normalisation in the convolutions of the latents."""

    def __init__(self, layer: GuidedNorm) -> None:
        super().__init__()
        self.time, self.space = layer.time, layer.space
        self.scale = GroupScale(layer.norm_layer)
        (y_weight, y_bias), (b_weight, b_bias) = kernel(layer.conv_y), kernel(layer.conv_b)
        gain, offset = layer.norm_layer.weight, layer.norm_layer.bias
        column = (-1, 1, 1, 1, 1)
        self.conv_y = conv3d(gain.view(column) * y_weight, gain * y_bias)
        self.conv_b = conv3d(offset.view(column) * y_weight + b_weight, offset * y_bias + b_bias)

    def forward(self, x: Guided) -> Tensor:
        frames, scale = self.scale(x.frames)
        gain = stretched(self.conv_y(x.latent) * scale, frames, self.time, self.space)
        normed: Tensor = frames * gain + stretched(self.conv_b(x.latent), frames, self.time, self.space)
        return normed


@lower_layer.register(AdaptiveNorm)
class ScaledAdaptiveNorm(nn.Module):
    """AdaptiveNorm with one product for what the frames and what the latents say."""

    def __init__(self, layer: AdaptiveNorm) -> None:
        super().__init__()
        self.scale = GroupScale(layer.norm)
        self.layer = layer

    def forward(self, x: Guided) -> Tensor:
        gain, offset = self.layer.guide(x.latent)
        frames, scale = self.scale(x.frames)
        normed: Tensor = frames * (scale * gain) + offset
        return normed


@singledispatch
def lower_behind(norm: nn.Module, seen: nn.Module) -> nn.Module:
    """The lowered form of a normalisation that sees the output of one layer only, and that layer changed in place."""
    return lower_layer(norm)


@lower_behind.register
def layer_norm_behind(norm: LayerNorm, seen: nn.Module) -> nn.Module:
    """LayerNorm behind a convolution that centres its outputs itself."""
    centre(seen.time if isinstance(seen, FactorizedConv) else seen)
    return ChannelNorm(norm.norm.weight, norm.norm.bias, norm.norm.eps)


def centre(conv: nn.Module) -> None:
    """Fold "subtract the mean over the output channels" into a convolution, in place."""
    weight, bias = kernel(conv)
    weight -= weight.mean(0, keepdim=True)
    bias -= bias.mean()
