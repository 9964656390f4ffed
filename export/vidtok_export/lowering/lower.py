"""The reference model as an equivalent one made for runtimes.

Every activation stays `N C T H W`, every convolution is a Conv3d, and the exact identities are folded
into the weights. Only leaves are replaced; the composite modules of the reference run them unchanged.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers.attention import Attention
from vidtok_ref.layers.blocks import SpatialBlock, TimeBlock
from vidtok_ref.layers.conv import FactorizedConv, FrameConv2d, TimeConv1d, kernel
from vidtok_ref.layers.norm import NORM_EPS, LayerNorm
from vidtok_ref.layers.resample import (
    LinearTemporalUp,
    SpatialDown,
    SpatialUp,
    TemporalDown,
    TemporalUp,
    upsample_linear,
)
from vidtok_ref.streaming.causal_cache import CausalCache
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope


def _conv3d(weight: Tensor, bias: Tensor | None, **options: Any) -> nn.Conv3d:
    """A Conv3d with the given kernel `O I T H W`."""
    kernel = tuple(weight.shape[2:])
    conv = nn.Conv3d(weight.shape[1], weight.shape[0], kernel, bias=bias is not None, **options)  # type: ignore[arg-type]
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv


def _pointwise(weight: Tensor, bias: Tensor | None) -> nn.Conv3d:
    """A 1x1x1 convolution with the matrix `O I`."""
    return _conv3d(weight[:, :, None, None, None], bias)


# Up to so many channels a norm sees all pixels as one axis, which keeps channels outermost: engines that have them
# innermost work on so few numbers at a time (measured at 8 channels, three convolutions with norms and SiLU: OpenVINO
# takes 155 ms instead of 274, ONNX Runtime as long as before; at 16 channels 105 ms on OpenVINO, but 89 in five axes).
FEW_CHANNELS = 8


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
            self.mean = _pointwise(average, None)

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


class PixelConv1d(nn.Module):
    """TimeConv1d as a Conv3d with kernel 3x1x1."""

    def __init__(self, layer: TimeConv1d) -> None:
        super().__init__()
        weight, bias = kernel(layer)
        self.conv = _conv3d(weight[..., None, None], bias, stride=(layer.stride, 1, 1))
        self.cache = layer.cache

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.cache.step(x, state, call)
        return self.conv(x), remembered


def frame_conv(layer: FrameConv2d) -> nn.Conv3d:
    """FrameConv2d as a Conv3d with kernel 1 x k x k."""
    p = layer.padding
    assert isinstance(p, tuple)
    return _conv3d(layer.weight.unsqueeze(2), layer.bias, padding=(0, *p))


class FoldedSpatialDown(nn.Module):
    """SpatialDown as a strided Conv3d."""

    def __init__(self, layer: SpatialDown) -> None:
        super().__init__()
        self.conv = _conv3d(layer.conv.weight.unsqueeze(2), layer.conv.bias, stride=(1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y


def doubling_kernel(weight: Tensor, dim: int) -> Tensor:
    """Four taps of a transposed convolution of stride 2 that equal nearest x2 and then three taps along `dim`.

    An input stands behind its two copies and reaches one output before and one behind them.
    """
    w0, w1, w2 = weight.unbind(dim)
    return torch.stack([w2, w1 + w2, w0 + w1, w0], dim)


class TransposedSpatialUp(nn.Module):
    """SpatialUp as one transposed convolution: 4/9 of the work, and no phases to interleave."""

    def __init__(self, layer: SpatialUp) -> None:
        super().__init__()
        c = layer.conv.out_channels
        assert layer.conv.bias is not None
        weight = doubling_kernel(doubling_kernel(layer.conv.weight.detach(), 2), 3)
        self.conv = nn.ConvTranspose3d(c, c, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1))
        self.conv.weight = nn.Parameter(weight.transpose(0, 1).unsqueeze(2).contiguous(), requires_grad=False)
        self.conv.bias = nn.Parameter(layer.conv.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


def blended(layer: TemporalDown | TemporalUp | LinearTemporalUp) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel and bias of a layer's convolution scaled by `1 - alpha`, and alpha."""
    weight, bias = kernel(layer.conv)
    alpha = torch.sigmoid(layer.mix_factor.detach())
    return (1 - alpha) * weight.detach(), (1 - alpha) * bias.detach(), alpha


def add_identity(weight: Tensor, tap: int, share: Tensor) -> None:
    """Make a kernel `C C T 3 3` also add `share` of the frame under a temporal tap, in place."""
    diagonal = torch.arange(weight.shape[0])
    weight[diagonal, diagonal, tap, 1, 1] += share


def folded_down(layer: TemporalDown) -> tuple[Tensor, Tensor]:
    """Kernel and bias that equal `alpha * avgpool3 + (1 - alpha) * conv`."""
    weight, bias, alpha = blended(layer)
    for tap in range(3):
        add_identity(weight, tap, alpha / 3)
    return weight, bias


class FoldedTemporalDown(nn.Module):
    """TemporalDown as one strided convolution."""

    def __init__(self, layer: TemporalDown) -> None:
        super().__init__()
        self.conv = _conv3d(*folded_down(layer), stride=(2, 1, 1), padding=(0, 1, 1))
        self.cache = layer.conv.cache

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.cache.step(x, state, call)
        return self.conv(x), remembered


def folded_up(layer: TemporalUp) -> tuple[Tensor, Tensor]:
    """Two-tap kernel `2C C 2 3 3` and bias `2C` for neighbours (left, right) of a sequence to be doubled.

    Three frames in a row of the doubled sequence are left, left, right or left, right, right: a kernel-3
    convolution of it weighs them `w0 + w1, w2` and `w0, w1 + w2`. The blend adds alpha under the tap of the
    output's own frame: the newest for a causal convolution, else the middle one.
    """
    weight, bias, alpha = blended(layer)
    add_identity(weight, 2 if layer.conv.cache.padding.causal else 1, alpha)
    w0, w1, w2 = weight.unbind(2)
    return torch.cat([torch.stack([w0 + w1, w2], 2), torch.stack([w0, w1 + w2], 2)]), bias.repeat(2)


class FoldedTemporalUp(nn.Module):
    """TemporalUp as one two-tap convolution with twice the outputs: 2/3 of the work, one remembered frame."""

    def __init__(self, layer: TemporalUp) -> None:
        super().__init__()
        self.conv = _conv3d(*folded_up(layer), padding=(0, 1, 1))
        padding = layer.conv.cache.padding
        self.cache = CausalCache(1 if padding.causal else 2, padding)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.cache.step(x, state, call)
        y = self.conv(x).unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3)
        # The pairs at both ends of a non-causal chunk also give a frame outside of it.
        return y if self.cache.padding.causal else y[:, :, 1:-1], remembered


def _taps(weight: Tensor, bias: Tensor) -> nn.Conv3d:
    """A convolution of single frames that gives every temporal tap's part, the bias with the newest one's."""
    zeros = torch.zeros_like(bias).repeat(2)
    return _conv3d(torch.cat(weight.unbind(2)).unsqueeze(2), torch.cat([zeros, bias]), padding=(0, 1, 1))


class TapwiseTemporalUp(nn.Module):
    """TemporalUp with every frame convolved once with each of the three taps: half of the work, and more to add up.

    Three frames in a row of the doubled sequence are left, left, right or left, right, right. With `P_k = w_k * x`
    they give `P_0[left] + P_2[right]` and the one or the other `P_1`. The blend adds alpha under the tap of the
    output's own frame: the newest for a causal convolution, else the middle one. `P_0` and `P_1` of one frame are
    remembered.
    """

    def __init__(self, layer: TemporalUp) -> None:
        super().__init__()
        padding = layer.conv.cache.padding
        self.cache = CausalCache(1 if padding.causal else 2, padding)
        weight, bias, alpha = blended(layer)
        add_identity(weight, 2 if self.cache.padding.causal else 1, alpha)
        self.taps = _taps(weight, bias)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        if self.cache.padding.causal:
            p0, p1, p2 = self.taps(x).chunk(3, 1)
            held, remembered = self.cache.step(torch.cat([p0, p1], 1), state, call)
            p0, p1 = held.chunk(2, 1)
        else:
            x, remembered = self.cache.step(x, state, call)
            p0, p1, p2 = self.taps(x).chunk(3, 1)
            p2 = p2[:, :, 1:]
        both = p0[:, :, :-1] + p2
        y = torch.stack([both + p1[:, :, :-1], both + p1[:, :, 1:]], dim=3).flatten(2, 3)
        # The pairs at both ends of a non-causal chunk also give a frame outside of it.
        return y if self.cache.padding.causal else y[:, :, 1:-1], remembered


# From so many channels on less work outweighs more sums (measured: a decoder of 256 and 512 channels gains 10% on
# OpenVINO and 13% on ONNX Runtime, one of 48 loses 12% on OpenVINO).
MANY_CHANNELS = 128


def temporal_up(layer: TemporalUp) -> FoldedTemporalUp | TapwiseTemporalUp:
    """TemporalUp in the form that is faster at its width."""
    channels = len(kernel(layer.conv)[1])
    return TapwiseTemporalUp(layer) if channels >= MANY_CHANNELS else FoldedTemporalUp(layer)


class FoldedLinearTemporalUp(nn.Module):
    """LinearTemporalUp with the convolution before the interpolation: half of the work.

    Interpolation along T and the taps' 3x3 kernels commute: with `P_k = w_k * x` (the blend adds alpha in w2),
    interpolated to `V_k`, output j is `V_0[j-2] + V_1[j-1] + V_2[j]`. So every frame is convolved once, not
    twice, and a boundary changes weights of the interpolation only. The bias rides on P_2, since the
    interpolation weights sum to 1. Two delay lines of one frame add up the taps.
    """

    def __init__(self, layer: LinearTemporalUp) -> None:
        super().__init__()
        weight, bias, alpha = blended(layer)
        add_identity(weight, 2, alpha)
        self.taps = _taps(weight, bias)
        self.prev = layer.prev
        self.lag = layer.lag

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        v0, v1, v2 = upsample_linear(run("prev", self.prev, self.taps(x)), call and call.boundary, self.lag).chunk(3, 1)
        v1 = v1 + run("tap0", self.prev, v0)[:, :, :-1]
        return v2 + run("tap1", self.prev, v1)[:, :, :-1], run.new


class PlainAttention(nn.Module):
    """Attention written as two matrix products and a softmax."""

    def __init__(self, layer: Attention) -> None:
        super().__init__()
        self.norm = ChannelNorm(layer.norm)
        # One projection for q, k and v; the scale 1/sqrt(C) stays out of the weights, which keeps them exact.
        weights, biases = zip(*(kernel(p) for p in (layer.q, layer.k, layer.v)), strict=True)
        self.qkv = _conv3d(torch.cat(weights), torch.cat(biases))
        self.proj_out = layer.proj_out
        self.scale = len(biases[0]) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(3).transpose(1, 2)  # N T 3C (H W)
        q, k, v = qkv.chunk(3, dim=2)
        scores = torch.softmax(q.transpose(2, 3) @ k * self.scale, dim=-1)
        attended = (v @ scores.transpose(2, 3)).transpose(1, 2)
        projected: Tensor = self.proj_out(attended.unflatten(3, x.shape[-2:]))
        return x + projected


_LOWERED: dict[type[nn.Module], Any] = {
    LayerNorm: ChannelNorm,
    FrameConv2d: frame_conv,
    TimeConv1d: PixelConv1d,
    SpatialDown: FoldedSpatialDown,
    SpatialUp: TransposedSpatialUp,
    TemporalDown: FoldedTemporalDown,
    TemporalUp: temporal_up,
    LinearTemporalUp: FoldedLinearTemporalUp,
    Attention: PlainAttention,
}


def _replace_leaves(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) in _LOWERED:
            setattr(module, name, _LOWERED[type(child)](child))
        else:
            _replace_leaves(child)


def _centre_blocks(coder: nn.Module) -> None:
    """In a residual block only the second norm sees the first convolution, so that one can centre its outputs."""
    for block in coder.modules():
        if isinstance(block, SpatialBlock | TimeBlock):
            conv = block.conv1
            centre(conv.time if isinstance(conv, FactorizedConv) else conv)
            block.add_module("norm2", ChannelNorm(block.norm2, centred=True))


def lower(coder: nn.Module) -> nn.Module:
    """A lowered copy of a reference Encoder or Decoder with the same `step`; the original stays as it is."""
    lowered = copy.deepcopy(coder).eval().requires_grad_(False)
    _centre_blocks(lowered)
    _replace_leaves(lowered)
    return lowered
