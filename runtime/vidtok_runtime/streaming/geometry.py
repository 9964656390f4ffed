"""Pixels to network input and back: value range, axes, edge padding, cropping."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.stream_spec import StreamSpec
from vidtok_runtime.errors import InputError

_log = logging.getLogger(__name__)
# Resampling overshoots -1..1 a little; values beyond this are in other units.
_FAR_OUTSIDE = 2.0
_USUAL = (-1.0, 1.0)  # what most networks take for dark and light


def check_frames(frames: NDArray[Any]) -> None:
    """Raise InputError unless frames are `[T, H, W, 3]`, uint8, or float32 that is finite."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape[1:]:
        raise InputError(f"video must be [T, H, W, 3], got {list(frames.shape)}")
    if frames.dtype not in (np.uint8, np.float32):
        raise InputError(f"video must be uint8 (0..255) or float32 (-1..1), got {frames.dtype}")
    if frames.dtype == np.float32 and frames.size:
        largest = max(abs(float(frames.min())), abs(float(frames.max())))
        if not np.isfinite(largest):
            raise InputError("video holds NaN or infinite values; clean it first")
        if largest > _FAR_OUTSIDE:
            raise InputError(f"float32 video must lie in -1..1, found {largest:g}; scale 0..255 by x / 127.5 - 1")


class FrameNotes:
    """Says once each what may surprise: float frames that may be meant as 0..1, and much padding."""

    def __init__(self) -> None:
        self._told_range = self._told_size = False

    def look(self, frames: NDArray[Any], stream: StreamSpec) -> None:
        """Look at the first frames of a stream."""
        if not self._told_range and frames.dtype == np.float32 and frames.size and frames.min() >= 0:
            self._told_range = True
            _log.warning("float32 video is taken as -1..1, but nothing in it is below 0; if it is 0..1, give x * 2 - 1")
        height, width = frames.shape[1:3]
        tall, wide = padded_size(height, width, stream.side_multiple, square=stream.square)
        if not self._told_size and (tall, wide) != padded_size(height, width, stream.spatial_multiple):
            self._told_size = True
            _log.warning(
                f"this model takes {'squares' if stream.square else 'frames'} with sides of multiples of "
                f"{stream.side_multiple} pixels: {width}x{height} is padded to {wide}x{tall} and cropped after decoding"
            )


def padded_size(height: int, width: int, multiple: int, *, square: bool = False) -> tuple[int, int]:
    """Pixels along H and W after padding."""
    height, width = (-(-n // multiple) * multiple for n in (height, width))
    return (max(height, width),) * 2 if square else (height, width)


def to_network(
    frames: NDArray[Any], multiple: int, *, square: bool = False, pixel_range: tuple[float, float] = _USUAL
) -> NDArray[np.float32]:
    """`[T, H, W, 3]` to `[1, 3, T, H', W']` in the range, edges repeated right and below up to the multiple."""
    height, width = frames.shape[1:3]
    tall, wide = padded_size(height, width, multiple, square=square)
    video = np.empty((1, 3, len(frames), tall, wide), np.float32)
    for i, frame in enumerate(frames):  # one at a time: what is made on the way is no larger than a frame
        values = frame
        if frame.dtype == np.uint8:
            values = frame.astype(np.float32) / np.float32(127.5) - np.float32(1)
        if pixel_range != _USUAL:
            half, middle = _half_and_middle(pixel_range)
            values = values * half + middle
        padding = ((0, tall - height), (0, wide - width), (0, 0))
        video[0, :, i] = np.pad(values, padding, mode="edge").transpose(2, 0, 1)
    return video


def from_network(
    video: NDArray[np.float32],
    height: int | None,
    width: int | None,
    dtype: str,
    pixel_range: tuple[float, float] = _USUAL,
) -> NDArray[Any]:
    """`[1, 3, T, H', W']` to `[T, H, W, 3]`, cropped and clipped; uint8 rounds, float32 stays in -1..1."""
    cropped = video[0, :, :, :height, :width].transpose(1, 2, 3, 0)
    frames = np.empty(cropped.shape, dtype)
    for i, values in enumerate(cropped):
        if pixel_range != _USUAL:
            half, middle = _half_and_middle(pixel_range)
            values = (values - middle) / half
        values = np.clip(values, -1, 1)
        frames[i] = values if dtype == "float32" else np.rint((values + np.float32(1)) * np.float32(127.5))
    return frames


def _half_and_middle(pixel_range: tuple[float, float]) -> tuple[np.float32, np.float32]:
    low, high = pixel_range
    return np.float32((high - low) / 2), np.float32((high + low) / 2)
