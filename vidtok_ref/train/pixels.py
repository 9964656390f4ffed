"""Pixels of files, of losses and of models.

Losses and figures are of -1..1 whatever range a model has, so that a recipe weighs them alike for every family.
"""

from __future__ import annotations

from torch import Tensor

PixelRange = tuple[float, float]


def to_tensor(clips: Tensor) -> Tensor:
    """uint8 `N T H W 3` to float32 `N 3 T H W` in -1..1, channels last in memory."""
    return (clips.float() / 127.5 - 1).permute(0, 4, 1, 2, 3)


def to_network(video: Tensor, pixel_range: PixelRange) -> Tensor:
    """Video in -1..1 in a model's own range."""
    half, middle = _half_and_middle(pixel_range)
    return video if (half, middle) == (1, 0) else video * half + middle


def from_network(video: Tensor, pixel_range: PixelRange) -> Tensor:
    """The inverse of `to_network`."""
    half, middle = _half_and_middle(pixel_range)
    return video if (half, middle) == (1, 0) else (video - middle) / half


def _half_and_middle(pixel_range: PixelRange) -> PixelRange:
    low, high = pixel_range
    return (high - low) / 2, (high + low) / 2
