"""Fewer and more frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidtok_export.lowering.conv import conv3d
from vidtok_export.lowering.doubling_taps import doubling_taps
from vidtok_export.lowering.layer import lower_layer
from vidtok_ref.layers.conv import kernel
from vidtok_ref.layers.resample import LinearTemporalUp, TemporalDown, TemporalUp, upsample_linear
from vidtok_ref.streaming.causal_cache import CausalCache
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope


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


@lower_layer.register(TemporalDown)
class FoldedTemporalDown(nn.Module):
    """TemporalDown as one strided convolution."""

    def __init__(self, layer: TemporalDown) -> None:
        super().__init__()
        self.conv = conv3d(*folded_down(layer), stride=(2, 1, 1), padding=(0, 1, 1))
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
    right_even, right_odd, left_even, left_odd = doubling_taps(*weight.unbind(2))
    kernels = [torch.stack([left_even, right_even], 2), torch.stack([left_odd, right_odd], 2)]
    return torch.cat(kernels), bias.repeat(2)


def _doubling_cache(layer: TemporalUp) -> CausalCache:
    """A convolution of the frames to be doubled sees one beside each, not two beside each copy."""
    padding = layer.conv.cache.padding
    return CausalCache(1 if padding.causal else 2, padding)


def interleaved(y: Tensor) -> Tensor:
    """Pairs of frames beside each other, `N 2C T H W`, as `N C 2T H W`."""
    n, pair, time, height, width = y.shape
    return y.reshape(n, 2, pair // 2, time, height, width).movedim(1, 3).reshape(n, pair // 2, 2 * time, height, width)


class FoldedTemporalUp(nn.Module):
    """TemporalUp as one two-tap convolution with twice the outputs: 2/3 of the work, one remembered frame."""

    def __init__(self, layer: TemporalUp) -> None:
        super().__init__()
        self.conv = conv3d(*folded_up(layer), padding=(0, 1, 1))
        self.cache = _doubling_cache(layer)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.cache.step(x, state, call)
        y = interleaved(self.conv(x))
        # The pairs at both ends of a non-causal chunk also give a frame outside of it.
        return y if self.cache.padding.causal else y[:, :, 1:-1], remembered


def _taps(weight: Tensor, bias: Tensor) -> nn.Conv3d:
    """A convolution of single frames that gives every temporal tap's part, the bias with the newest one's."""
    zeros = torch.zeros_like(bias).repeat(2)
    return conv3d(torch.cat(weight.unbind(2)).unsqueeze(2), torch.cat([zeros, bias]), padding=(0, 1, 1))


class TapwiseTemporalUp(nn.Module):
    """TemporalUp with every frame convolved once with each of the three taps: half of the work, and more to add up.

    Three frames in a row of the doubled sequence are left, left, right or left, right, right. With `P_k = w_k * x`
    they give `P_0[left] + P_2[right]` and the one or the other `P_1`. The blend adds alpha under the tap of the
    output's own frame: the newest for a causal convolution, else the middle one. `P_0` and `P_1` of one frame are
    remembered.
    """

    def __init__(self, layer: TemporalUp) -> None:
        super().__init__()
        self.cache = _doubling_cache(layer)
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
        n, channels, time, height, width = both.shape
        y = torch.stack([both + p1[:, :, :-1], both + p1[:, :, 1:]], dim=3)
        y = y.reshape(n, channels, 2 * time, height, width)
        # The pairs at both ends of a non-causal chunk also give a frame outside of it.
        return y if self.cache.padding.causal else y[:, :, 1:-1], remembered


# From so many channels on less work outweighs more sums (measured: a decoder of 256 and 512 channels gains 10% on
# OpenVINO and 13% on ONNX Runtime, one of 48 loses 12% on OpenVINO).
MANY_CHANNELS = 128


@lower_layer.register
def temporal_up(layer: TemporalUp) -> FoldedTemporalUp | TapwiseTemporalUp:
    """TemporalUp in the form that is faster at its width."""
    channels = len(kernel(layer.conv)[1])
    return TapwiseTemporalUp(layer) if channels >= MANY_CHANNELS else FoldedTemporalUp(layer)


@lower_layer.register(LinearTemporalUp)
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
