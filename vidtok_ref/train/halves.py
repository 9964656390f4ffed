"""Batches of one clip on the CPU: 3D convolutions run over its two halves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from vidtok_ref.layers.conv import TimeConv3d


def convolve_halves(model: nn.Module) -> None:
    """Let 3D convolutions take one clip as a batch of two; names, values and gradients stay what they are.

    In float32 on the CPU, PyTorch (2.13) leaves one narrow clip to a loop of its own, forward and back, which takes
    seven times as long as oneDNN, to which it leaves two.
    """
    for module in model.modules():
        if isinstance(module, TimeConv3d):
            module.forward = partial(_in_halves, module.forward, module.stride)  # type: ignore[method-assign]


def _in_halves(convolve: Callable[[Tensor], Tensor], stride: int, padded: Tensor) -> Tensor:
    """`convolve`, of three taps along T, over both halves of the frames that it gives."""
    frames = (padded.shape[2] - 3) // stride + 1
    if padded.shape[0] > 1 or frames == 1 or padded.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return convolve(padded)
    half = (frames + 1) // 2  # of an odd number both have the frame in the middle
    length, start = (half - 1) * stride + 3, (frames - half) * stride
    first, second = convolve(torch.cat([padded[:, :, :length], padded[:, :, start : start + length]])).split(1)
    return torch.cat([first, second[:, :, 2 * half - frames :]], 2)
