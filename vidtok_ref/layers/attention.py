"""Attention over the pixels of a frame, and over frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.layers.conv import FrameConv2d, kernel
from vidtok_ref.layers.norm import LayerNorm, RMSNorm


class Attention(nn.Module):
    """Single-head attention over the pixels of each frame, with a residual."""

    norm: nn.Module

    def project(self, h: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value, each `N C T H W`."""
        raise NotImplementedError

    def projection(self) -> tuple[Tensor, Tensor]:
        """The weights of `project` in one: kernel `3C C 1 1 1` and bias."""
        raise NotImplementedError

    def output(self) -> nn.Module:
        """The projection of what was attended to."""
        raise NotImplementedError

    def added(self, x: Tensor) -> Tensor:
        """What is added to x."""
        q, k, v = (p.movedim(1, -1).flatten(2, 3) for p in self.project(self.norm(x)))  # N T (H W) C
        attended = F.scaled_dot_product_attention(q, k, v)
        attended = attended.unflatten(2, x.shape[-2:]).movedim(-1, 1)
        projected: Tensor = self.output()(attended)
        return projected

    def forward(self, x: Tensor) -> Tensor:
        return x + self.added(x)


class SplitAttention(Attention):
    """With a 1x1x1 convolution each for query, key, value and output, made by `point`."""

    def __init__(
        self,
        channels: int,
        point: Callable[[int, int], nn.Module],
        norm: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.q = point(channels, channels)
        self.k = point(channels, channels)
        self.v = point(channels, channels)
        self.proj_out = point(channels, channels)

    def project(self, h: Tensor) -> tuple[Tensor, ...]:
        return self.q(h), self.k(h), self.v(h)

    def projection(self) -> tuple[Tensor, Tensor]:
        weights, biases = zip(*(kernel(p) for p in (self.q, self.k, self.v)), strict=True)
        weight = torch.cat(weights)
        return weight.reshape(*weight.shape[:2], 1, 1, 1), torch.cat(biases)

    def output(self) -> nn.Module:
        return self.proj_out


class TimeAttention(SplitAttention):
    """Over the frames of a call at each pixel on its own; causal: a frame sees itself and those before it only."""

    def __init__(
        self,
        channels: int,
        point: Callable[[int, int], nn.Module],
        norm: Callable[[int], nn.Module] = LayerNorm,
        *,
        causal: bool,
    ) -> None:
        super().__init__(channels, point, norm)
        self.causal = causal

    def added(self, x: Tensor) -> Tensor:
        n, _, _, height, width = x.shape
        q, k, v = (p.permute(0, 3, 4, 2, 1).flatten(0, 2) for p in self.project(self.norm(x)))  # (N H W) T C
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        projected: Tensor = self.output()(attended.unflatten(0, (n, height, width)).permute(0, 4, 3, 1, 2))
        return projected


class SpaceTimeAttention(Attention):
    """Over the pixels of each frame, and over the frames of what that gives, with one residual around both."""

    def __init__(self, space: Attention, time: Attention) -> None:
        super().__init__()
        self.space = space
        self.time = time

    def added(self, x: Tensor) -> Tensor:
        return self.time.added(self.space.added(x))


class JointAttention(Attention):
    """With one convolution for query, key and value, behind a root mean square normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, axes=3)
        self.to_qkv = FrameConv2d(channels, 3 * channels, 1)
        self.proj = FrameConv2d(channels, channels, 1)

    def project(self, h: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.to_qkv(h).chunk(3, dim=1))

    def projection(self) -> tuple[Tensor, Tensor]:
        assert self.to_qkv.bias is not None
        return self.to_qkv.weight.unsqueeze(2), self.to_qkv.bias

    def output(self) -> nn.Module:
        return self.proj
