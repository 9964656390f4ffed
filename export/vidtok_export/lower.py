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

from vidtok_ref import layers as ref
from vidtok_ref.layers import NORM_EPS, double, kernel
from vidtok_ref.state import Call, State, Thread


def _conv3d(weight: Tensor, bias: Tensor | None, **options: Any) -> nn.Conv3d:
    """A Conv3d with the given kernel `O I T H W`."""
    kernel = tuple(weight.shape[2:])
    conv = nn.Conv3d(weight.shape[1], weight.shape[0], kernel, bias=bias is not None, **options)  # type: ignore[arg-type]
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv


class ChannelNorm(nn.Module):
    """LayerNorm over C written as reductions over axis 1: no transposes, and OpenVINO fuses it."""

    def __init__(self, layer: ref.LayerNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.norm.weight.detach().view(1, -1, 1, 1, 1), requires_grad=False)
        self.bias = nn.Parameter(layer.norm.bias.detach().view(1, -1, 1, 1, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        variance = (centred * centred).mean(1, keepdim=True)
        return centred / torch.sqrt(variance + NORM_EPS) * self.weight + self.bias


class PixelConv1d(nn.Module):
    """TimeConv1d as a Conv3d with kernel 3x1x1."""

    def __init__(self, layer: ref.TimeConv1d) -> None:
        super().__init__()
        weight, bias = kernel(layer)
        self.conv = _conv3d(weight[..., None, None], bias, stride=(layer.stride, 1, 1))
        self.reach = layer.reach

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.reach.step(x, state, call)
        return self.conv(x), remembered


def frame_conv(layer: ref.FrameConv2d) -> nn.Conv3d:
    """FrameConv2d as a Conv3d with kernel 1 x k x k."""
    p = layer.padding
    assert isinstance(p, tuple)
    return _conv3d(layer.weight.unsqueeze(2), layer.bias, padding=(0, *p))


class FoldedSpatialDown(nn.Module):
    """SpatialDown as a strided Conv3d."""

    def __init__(self, layer: ref.SpatialDown) -> None:
        super().__init__()
        self.conv = _conv3d(layer.conv.weight.unsqueeze(2), layer.conv.bias, stride=(1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y


def phase_kernels(weight: Tensor) -> list[list[Tensor]]:
    """Four 2x2 kernels, by row and column parity, that equal nearest x2 followed by a 3x3 kernel `O I 3 3`.

    An even output sees inputs i-1 and i as `w0, w1 + w2`, an odd one i and i+1 as `w0 + w1, w2`.
    """

    def split(w: Tensor, dim: int) -> list[Tensor]:
        w0, w1, w2 = w.unbind(dim)
        return [torch.stack([w0, w1 + w2], dim), torch.stack([w0 + w1, w2], dim)]

    return [split(rows, 3) for rows in split(weight, 2)]


class PhaseSpatialUp(nn.Module):
    """SpatialUp as four 2x2 convolutions, one for each parity of the output pixel: 4/9 of the work."""

    def __init__(self, layer: ref.SpatialUp) -> None:
        super().__init__()
        kernels = phase_kernels(layer.conv.weight)
        self.phases = nn.ModuleList(_conv3d(k.unsqueeze(2), layer.conv.bias) for row in kernels for k in row)

    def forward(self, x: Tensor) -> Tensor:
        phases = [
            phase(F.pad(x, (1 - column, column, 1 - row, row)))
            for phase, (row, column) in zip(self.phases, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True)
        ]
        rows = [torch.stack(phases[i : i + 2], dim=-1).flatten(-2) for i in (0, 2)]
        return torch.stack(rows, dim=-2).flatten(-3, -2)


def blended(layer: ref.TemporalDown | ref.TemporalUp | ref.LinearTemporalUp) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel and bias of a layer's convolution scaled by `1 - alpha`, and alpha."""
    weight, bias = kernel(layer.conv)
    alpha = torch.sigmoid(layer.mix_factor.detach())
    return (1 - alpha) * weight.detach(), (1 - alpha) * bias.detach(), alpha


def add_identity(weight: Tensor, tap: int, share: Tensor) -> None:
    """Make a kernel `C C T 3 3` also add `share` of the frame under a temporal tap, in place."""
    diagonal = torch.arange(weight.shape[0])
    weight[diagonal, diagonal, tap, 1, 1] += share


def folded_down(layer: ref.TemporalDown) -> tuple[Tensor, Tensor]:
    """Kernel and bias that equal `alpha * avgpool3 + (1 - alpha) * conv`."""
    weight, bias, alpha = blended(layer)
    for tap in range(3):
        add_identity(weight, tap, alpha / 3)
    return weight, bias


class FoldedTemporalDown(nn.Module):
    """TemporalDown as one strided convolution."""

    def __init__(self, layer: ref.TemporalDown) -> None:
        super().__init__()
        self.conv = _conv3d(*folded_down(layer), stride=(2, 1, 1), padding=(0, 1, 1))
        self.reach = layer.conv.reach

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.reach.step(x, state, call)
        return self.conv(x), remembered


def folded_up(layer: ref.TemporalUp) -> tuple[Tensor, Tensor]:
    """Two-tap kernel `2C C 2 3 3` and bias `2C` for neighbours (left, right) of a sequence to be doubled.

    Three frames in a row of the doubled sequence are left, left, right or left, right, right: a kernel-3
    convolution of it weighs them `w0 + w1, w2` and `w0, w1 + w2`. The blend adds alpha under the tap of the
    output's own frame: the newest for a causal convolution, else the middle one.
    """
    weight, bias, alpha = blended(layer)
    add_identity(weight, 2 if layer.conv.reach.causal else 1, alpha)
    w0, w1, w2 = weight.unbind(2)
    return torch.cat([torch.stack([w0 + w1, w2], 2), torch.stack([w0, w1 + w2], 2)]), bias.repeat(2)


class FoldedTemporalUp(nn.Module):
    """TemporalUp as one two-tap convolution with twice the outputs: 2/3 of the work, one remembered frame."""

    def __init__(self, layer: ref.TemporalUp) -> None:
        super().__init__()
        self.conv = _conv3d(*folded_up(layer), padding=(0, 1, 1))
        self.reach = copy.copy(layer.conv.reach)
        self.reach.frames = 1 if self.reach.causal else 2

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.reach.step(x, state, call)
        y = self.conv(x).unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3)
        # The pairs at both ends of a non-causal chunk also give a frame outside of it.
        return y if self.reach.causal else y[:, :, 1:-1], remembered


class FoldedLinearTemporalUp(nn.Module):
    """LinearTemporalUp with the convolution before the interpolation: half of the work.

    Interpolation along T and the taps' 3x3 kernels commute: with `P_k = w_k * x` (the blend adds alpha in w2),
    interpolated to `V_k`, output j is `V_0[j-2] + V_1[j-1] + V_2[j]`. So every frame is convolved once, not
    twice, and a boundary changes weights of the interpolation only. The bias rides on P_2, since the
    interpolation weights sum to 1. Two delay lines of one frame add up the taps.
    """

    def __init__(self, layer: ref.LinearTemporalUp) -> None:
        super().__init__()
        weight, bias, alpha = blended(layer)
        add_identity(weight, 2, alpha)
        taps = torch.cat(weight.unbind(2)).unsqueeze(2)
        self.taps = _conv3d(taps, torch.cat([torch.zeros_like(bias).repeat(2), bias]), padding=(0, 1, 1))
        self.prev = layer.prev
        self.lag = layer.lag

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = Thread(state, call)
        v0, v1, v2 = double(run("prev", self.prev, self.taps(x)), call and call.boundary, self.lag).chunk(3, 1)
        v1 = v1 + run("tap0", self.prev, v0)[:, :, :-1]
        return v2 + run("tap1", self.prev, v1)[:, :, :-1], run.new


class PlainAttention(nn.Module):
    """Attention written as two matrix products and a softmax."""

    def __init__(self, layer: ref.Attention) -> None:
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
    ref.LayerNorm: ChannelNorm,
    ref.FrameConv2d: frame_conv,
    ref.TimeConv1d: PixelConv1d,
    ref.SpatialDown: FoldedSpatialDown,
    ref.SpatialUp: PhaseSpatialUp,
    ref.TemporalDown: FoldedTemporalDown,
    ref.TemporalUp: FoldedTemporalUp,
    ref.LinearTemporalUp: FoldedLinearTemporalUp,
    ref.Attention: PlainAttention,
}


def _replace_leaves(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) in _LOWERED:
            setattr(module, name, _LOWERED[type(child)](child))
        else:
            _replace_leaves(child)


def lower(coder: nn.Module) -> nn.Module:
    """A lowered copy of a reference Encoder or Decoder with the same `step`; the original stays as it is."""
    lowered = copy.deepcopy(coder).eval()
    _replace_leaves(lowered)
    return lowered.requires_grad_(False)
