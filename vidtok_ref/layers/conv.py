"""Convolutions in space, along T and in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref.streaming.causal_cache import CausalCache, Padding
from vidtok_ref.streaming.state import Call, State
from vidtok_ref.streaming.state_scope import StateScope


def per_frame(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an image function `(N T) C H W -> (N T) C' H' W'` to every frame of `N C T H W`."""
    n, t = x.shape[0], x.shape[2]
    y = fn(x.transpose(1, 2).flatten(0, 1))
    frames: Tensor = y.unflatten(0, (n, t))
    return frames.transpose(1, 2)


def adopt(module: nn.Module, conv: nn.Conv1d | nn.Conv3d, padding: Padding) -> None:
    """Register a convolution's weights in `module` as released: under `conv` if causal, directly if not."""
    if padding.causal:
        module.add_module("conv", conv)
    else:
        for name, parameter in conv.named_parameters():
            module.register_parameter(name, parameter)


def kernel(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias that `adopt` registered."""
    owner: Any = getattr(module, "conv", module)
    return owner.weight, owner.bias


class TimeConv3d(nn.Module):
    """Convolution 3x3x3, zero-padded in space; of stride 2 along T it needs one frame around an even chunk.

    Of stride 2 in space it is padded on the right and bottom only, as `SpatialDown`. dummies: as of `CausalCache`.
    """

    def __init__(
        self, c_in: int, c_out: int, padding: Padding, stride: int = 1, space_stride: int = 1, dummies: int = 0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.space_stride = space_stride
        self.cache = CausalCache(3 - stride, padding, dummies)
        adopt(self, nn.Conv3d(c_in, c_out, 3), padding)

    def forward(self, padded: Tensor) -> Tensor:
        """Convolve frames that `cache` has padded."""
        stride = (self.stride, self.space_stride, self.space_stride)
        if self.space_stride == 1:
            return F.conv3d(padded, *kernel(self), stride=stride, padding=(0, 1, 1))
        return F.conv3d(F.pad(padded, (0, 1, 0, 1)), *kernel(self), stride=stride)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.cache.step(x, state, call)
        return self(x), remembered


class TimeConv1d(nn.Module):
    """Convolution along T, kernel 3, at every pixel on its own; of stride 2 it needs an even chunk."""

    def __init__(self, c_in: int, c_out: int, padding: Padding, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.cache = CausalCache(3 - stride, padding)
        adopt(self, nn.Conv1d(c_in, c_out, 3), padding)

    def step(self, x: Tensor, state: Tensor | None, call: Call | None) -> tuple[Tensor, Tensor | State]:
        x, remembered = self.cache.step(x, state, call)
        weight, bias = kernel(self)
        # Pixels side by side on one axis: the same sums as a Conv1d per pixel, without reordering memory.
        y = F.conv2d(x.flatten(3), weight.unsqueeze(-1), bias, stride=(self.stride, 1))
        return y.unflatten(3, x.shape[-2:]), remembered


class PointConv3d(nn.Module):
    """1x1x1 convolution; the padding of its network decides the released names only."""

    def __init__(self, c_in: int, c_out: int, padding: Padding) -> None:
        super().__init__()
        adopt(self, nn.Conv3d(c_in, c_out, 1), padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, *kernel(self))


class PointLinear(nn.Linear):
    """1x1x1 convolution whose weights are those of a linear layer, `O I`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class FrameConv2d(nn.Conv2d):
    """2D convolution of every frame of `N C T H W`; its weights carry the plain released names."""

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(super().forward, x)


class FactorizedConv(nn.Module):
    """A 3x3x3 convolution in two factors: 3x3 inside each frame, then `TimeConv1d`."""

    def __init__(self, c_in: int, c_out: int, padding: Padding) -> None:
        super().__init__()
        self.space = FrameConv2d(c_in, c_out, 3, padding=1)
        self.time = TimeConv1d(c_out, c_out, padding)

    def step(self, x: Tensor, state: State | None, call: Call | None) -> tuple[Tensor, State]:
        run = StateScope(state, call)
        return run("time", self.time, self.space(x)), run.new


class PairedConv3d(nn.Module):
    """3x3 inside each frame, then kernel 3 along T of a clip in one call, behind copies of the first frame."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(c_in, c_out, (1, 3, 3), padding=(0, 1, 1))
        self.time = nn.Conv3d(c_out, c_out, (3, 1, 1))
        self.cache = CausalCache(2, Padding.FIRST_FRAME)

    def forward(self, x: Tensor) -> Tensor:
        padded, _ = self.cache.step(self.space(x), None, None)
        y: Tensor = self.time(padded)
        return y


class Beyond(NamedTuple):
    """What is seen beyond the ends of a clip: so many frames before and behind it, copies of the nearest or zeros."""

    before: int
    behind: int = 0
    copies: bool = True

    def around(self, x: Tensor) -> Tensor:
        """The clip `N C T H W` with these frames."""
        ends = x[:, :, :1], x[:, :, -1:]
        first, last = ends if self.copies else map(torch.zeros_like, ends)
        # An expansion to no frames is no input of a concatenation that every engine takes.
        before = [first.expand(-1, -1, self.before, -1, -1)] if self.before else []
        behind = [last.expand(-1, -1, self.behind, -1, -1)] if self.behind else []
        return torch.cat([*before, x, *behind], dim=2) if before or behind else x


class ClipConv3d(nn.Conv3d):
    """Convolution of a clip in one call, 3x3 in space and zero-padded there.

    time: length of the kernel along T. centred: else it is padded on the right and bottom only.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        beyond: Beyond,
        time: int = 3,
        stride: tuple[int, int, int] = (1, 1, 1),
        bias: bool = True,
        centred: bool = True,
    ) -> None:
        edge = 1 if centred else 0
        super().__init__(c_in, c_out, (time, 3, 3), stride=stride, padding=(0, edge, edge), bias=bias)
        self.beyond = beyond

    def forward(self, x: Tensor) -> Tensor:
        x = self.beyond.around(x)
        return super().forward(x if self.padding[1] else F.pad(x, (0, 1, 0, 1)))
