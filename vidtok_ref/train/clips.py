"""Clips to cut samples from: decoded and held in memory, or read from their file by seeking."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

import av
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.colour import ToRgb
from vidtok_runtime.errors import VideoError
from vidtok_runtime.selection import Selection, resize
from vidtok_runtime.source_film import find_film
from vidtok_runtime.video_in import VideoReader

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
        with VideoReader(path, Selection(size=str(short_side))) as reader:
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
        with VideoReader(path, Selection(size=str(short_side))) as reader:  # opens, and decodes a frame
            self._size = reader.height, reader.width
            count, fps = reader.frame_count or 1, reader.fps
        self.times = np.arange(count) / float(fps)
        self.path = path
        self._container = av.open(f"file:{path}", metadata_errors="replace")
        self._stream, crop = find_film(self._container, str(path))
        self._stream.thread_type = "AUTO"
        self._convert = ToRgb(crop)

    def take(self, index: NDArray[np.int64]) -> Pixels:
        assert self._stream.time_base is not None
        base, first = self._stream.time_base, self._stream.start_time or 0
        # Half a frame of grace: timestamps are rounded to the time base.
        wanted = self.times[index] + (self.times[1] / 2 if len(self.times) > 1 else 0)
        frames: list[Pixels] = []
        shown: av.VideoFrame | None = None
        try:
            self._container.seek(first + int(self.times[index[0]] / base), stream=self._stream)
            for raw in self._container.decode(self._stream):
                if raw.is_corrupt:
                    raise VideoError(f"{self.path} is broken; repair or re-download it")
                while (
                    shown is not None
                    and len(frames) < len(wanted)
                    and (raw.pts or 0) - first > wanted[len(frames)] / base
                ):
                    frames.append(self._pixels(shown))
                if len(frames) == len(wanted):
                    break
                shown = raw
        except av.FFmpegError as error:
            raise VideoError(f"{self.path} is broken: {error.strerror}; repair or re-download it") from error
        # The last frame stands for what is beyond it by rounding; more missing is a file that was cut.
        if shown is None or len(wanted) - len(frames) > np.count_nonzero(index >= index[-1] - 1):
            raise VideoError(f"{self.path} gives no frame at {wanted[len(frames)]:.1f} s; repair or re-download it")
        frames += [self._pixels(shown)] * (len(wanted) - len(frames))
        return np.stack(frames)

    def _pixels(self, raw: av.VideoFrame) -> Pixels:
        return resize(self._convert(raw, None), *self._size)

    def __enter__(self) -> FileClip:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._container.close()


def read_image(path: Path, short_side: int) -> Pixels:
    """A photograph, uint8 `H W 3`; raises VideoError."""
    pixels: Pixels = HeldClip(path, short_side, 1).pixels[0]
    return pixels
