"""Blocks of pixels as channels and back, by weights that nobody learns."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ToChannels(nn.Module):
    """Weighted sums over every block of `kernel` (`O I T H W`), beside each other; I is C divided by groups."""

    kernel: Tensor

    def __init__(self, kernel: Tensor, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, self.kernel, stride=self.kernel.shape[2:], groups=self.groups)


class FromChannels(ToChannels):
    """The transposed map: every channel, times its weights, spread over a block."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose3d(x, self.kernel, stride=self.kernel.shape[2:], groups=self.groups)


def consecutive(c_in: int, c_out: int, time: int, space: int) -> tuple[Tensor, int]:
    """Kernel and groups of sums over equal runs of what a block holds: its channels, frames, rows, columns in order."""
    groups = math.gcd(c_in, c_out)
    inputs, outputs = c_in // groups, c_out // groups
    place = torch.arange(inputs * time * space * space).view(inputs, time, space, space)
    run = place.numel() // outputs
    kernel = torch.stack([place // run == o for o in range(outputs)]).float()
    return kernel.repeat(groups, 1, 1, 1, 1), groups


def patches(size: int) -> tuple[Tensor, int]:
    """Kernel and groups of squares of RGB pixels as channels: all of red first, column by column."""
    kernel, groups = consecutive(3, 3 * size**2, 1, size)
    return kernel.transpose(3, 4).contiguous(), groups


def averages(c_in: int, c_out: int, time: int, space: int) -> ToChannels:
    """Means over equal runs of what a block holds; c_in * time * space**2 is a multiple of c_out."""
    kernel, groups = consecutive(c_in, c_out, time, space)
    return ToChannels(kernel / kernel[0].sum(), groups)


def copies(c_in: int, c_out: int, time: int, space: int) -> FromChannels:
    """Equal runs of what a block holds, each of one channel; c_out * time * space**2 is a multiple of c_in."""
    return FromChannels(*consecutive(c_out, c_in, time, space))


def haar() -> Tensor:
    """Kernel of two rounds of the 2x2x2 Haar transform of RGB pixels, undivided: `192 3 4 4 4`.

    Sums before differences along each axis, T before H before W; the later round counts slowest, colours fastest.
    """
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    once = torch.einsum("at,by,cx->abctyx", pair, pair, pair).flatten(0, 2)
    twice = torch.einsum("aTYX,btyx,rs->abrsTtYyXx", once, once, torch.eye(3))
    return twice.reshape(192, 3, 4, 4, 4)
