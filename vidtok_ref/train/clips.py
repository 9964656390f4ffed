"""Clips to cut samples from: decoded and held in memory, or read from their file by seeking."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import VideoError
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection

Pixels = NDArray[np.uint8]


class Clip(Protocol):
    """A video: `times` float64 `T`, rising seconds of its frames."""

    times: NDArray[np.float64]

    def take(self, index: NDArray[np.int64]) -> Pixels:
        """The frames at rising indices, uint8 `n H W 3`; raises VideoError."""
        ...


class HeldClip:
    """A clip in memory: the first `limit` frames at a shorter side of `short_side`. Raises VideoError."""

    def __init__(self, path: Path, short_side: int, limit: int) -> None:
        with VideoReader(path, Selection(size=str(short_side), resampling="rgb")) as reader:
            frames = [frame for frame, _ in zip(reader, range(limit), strict=False)]
            self.pixels: Pixels = np.stack([frame.pixels for frame in frames])
            self.times = np.array([float(frame.pts * reader.time_base) for frame in frames])

    def take(self, index: NDArray[np.int64]) -> Pixels:
        return self.pixels[index]


class FileClip:
    """A clip whose frames are read when they are wanted, at a shorter side of `short_side`.

    `times` are those of an even frame rate; a file whose rate varies gives the frame shown at that time.
    Raises VideoError where the file is no video.
    """

    def __init__(self, path: Path, short_side: int) -> None:
        self.path, self._size = path, str(short_side)
        with VideoReader(path, Selection(size=self._size, resampling="rgb")) as reader:  # opens, and decodes a frame
            self._fps = min(max(reader.fps, Fraction(1, 100)), Fraction(1000))  # what a selection takes
            count = round((reader.frame_count or 1) * self._fps / reader.fps)
            self.times = np.arange(max(1, count)) / float(self._fps)

    def take(self, index: NDArray[np.int64]) -> Pixels:
        first = int(index[0])
        start = Fraction(first) / self._fps or None
        chosen = Selection(start, fps=self._fps, size=self._size, resampling="rgb")
        frames: list[Pixels] = []
        with VideoReader(self.path, chosen) as reader:
            for number, frame in enumerate(reader, start=first):
                frames += [frame.pixels] * int(np.count_nonzero(index == number))
                if len(frames) == len(index):
                    break
        # The last frame stands for what is beyond it by rounding; more missing is a file that was cut.
        if not frames or len(index) - len(frames) > np.count_nonzero(index >= index[-1] - 1):
            moment = self.times[index[len(frames)]]
            raise VideoError(f"{self.path} gives no frame at {moment:.1f} s; repair or re-download it")
        return np.stack(frames + [frame.pixels] * (len(index) - len(frames)))


def read_image(path: Path, short_side: int) -> Pixels:
    """A photograph, uint8 `H W 3`; raises VideoError."""
    pixels: Pixels = HeldClip(path, short_side, 1).pixels[0]
    return pixels
