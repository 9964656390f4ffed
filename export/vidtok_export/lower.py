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
from vidtok_ref.layers import NORM_EPS, remember


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
    """CausalConv1d as a Conv3d with kernel 3x1x1."""

    def __init__(self, layer: ref.CausalConv1d) -> None:
        super().__init__()
        self.conv = _conv3d(layer.conv.weight[..., None, None], layer.conv.bias)

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        x, state = remember(state, x, 2)
        return self.conv(x), state


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


def folded_down(layer: ref.TemporalDown) -> tuple[Tensor, Tensor]:
    """Kernel and bias that equal `alpha * avgpool3 + (1 - alpha) * conv`."""
    conv = layer.conv.conv
    assert isinstance(conv, nn.Conv3d)
    assert conv.bias is not None
    alpha = torch.sigmoid(layer.mix_factor.detach())
    weight = (1 - alpha) * conv.weight.detach()
    diagonal = torch.arange(weight.shape[0])
    weight[diagonal, diagonal, :, 1, 1] += alpha / 3
    return weight, (1 - alpha) * conv.bias.detach()


class FoldedTemporalDown(nn.Module):
    """TemporalDown as one strided convolution."""

    def __init__(self, layer: ref.TemporalDown) -> None:
        super().__init__()
        self.conv = _conv3d(*folded_down(layer), stride=(2, 1, 1), padding=(0, 1, 1))

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        x, state = remember(state, x, 1)
        return self.conv(x), state


def folded_up(layer: ref.TemporalUp) -> tuple[Tensor, Tensor]:
    """Two-tap kernel `2C C 2 3 3` and bias `2C`: first the even output frames, then the odd ones.

    Of a doubled sequence a causal kernel-3 convolution sees two distinct frames, i-1 and i: even
    outputs weigh them `w0 + w1, w2`, odd ones `w0, w1 + w2`; the blend adds alpha on frame i.
    """
    conv = layer.conv.conv
    assert conv.bias is not None
    alpha = torch.sigmoid(layer.mix_factor.detach())
    w0, w1, w2 = ((1 - alpha) * conv.weight.detach()).unbind(2)
    weights = [torch.stack([w0 + w1, w2], 2), torch.stack([w0, w1 + w2], 2)]
    diagonal = torch.arange(conv.weight.shape[0])
    for weight in weights:
        weight[diagonal, diagonal, 1, 1, 1] += alpha
    return torch.cat(weights), ((1 - alpha) * conv.bias.detach()).repeat(2)


class FoldedTemporalUp(nn.Module):
    """TemporalUp as one two-tap convolution with twice the outputs: 2/3 of the work, one remembered frame."""

    def __init__(self, layer: ref.TemporalUp) -> None:
        super().__init__()
        self.conv = _conv3d(*folded_up(layer), padding=(0, 1, 1))

    def step(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        x, state = remember(state, x, 1)
        y = self.conv(x)
        return y.unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3), state


class PlainAttention(nn.Module):
    """Attention written as two matrix products and a softmax."""

    def __init__(self, layer: ref.Attention) -> None:
        super().__init__()
        self.norm = ChannelNorm(layer.norm)
        c = layer.q.conv.weight.shape[0]
        # One projection for q, k and v; the scale 1/sqrt(C) stays out of the weights, which keeps them exact.
        parts = [layer.q.conv, layer.k.conv, layer.v.conv]
        self.qkv = _conv3d(
            torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts if p.bias is not None])
        )
        self.proj_out = layer.proj_out
        self.scale = c**-0.5

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
    ref.CausalConv1d: PixelConv1d,
    ref.SpatialDown: FoldedSpatialDown,
    ref.SpatialUp: PhaseSpatialUp,
    ref.TemporalDown: FoldedTemporalDown,
    ref.TemporalUp: FoldedTemporalUp,
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
