"""Video and images in: an iterator of RGB frames that never holds more than one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike, fspath
from types import TracebackType

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError, VideoError


@dataclass(frozen=True)
class Frame:
    """One picture: `pixels` uint8 `H W 3` RGB, `pts` in units of the clip's time base."""

    pixels: NDArray[np.uint8]
    pts: int


def fit_size(size: str | None, height: int, width: int) -> tuple[int, int]:
    """Height and width asked for by `WxH`, or by `N` for the shorter side; None keeps the clip's own."""
    if size is None:
        return height, width
    try:
        parts = [int(p) for p in size.lower().split("x")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 2 or min(parts) < 1:
        raise InputError(f"a size is WIDTHxHEIGHT or the shorter side in pixels, got {size!r}")
    if len(parts) == 2:
        return parts[1], parts[0]
    scale = Fraction(parts[0], min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize `H W 3`: area averaging when shrinking, cubic when growing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    out = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(out, np.uint8)


class VideoReader:
    """Frames of a video or image file in display order, turned upright.

    size: None, `WxH`, or the shorter side. Raises VideoError when the file is no video, holds no
    frame, or ends before the frames that its header promises.
    """

    def __init__(self, path: str | PathLike[str], size: str | None = None) -> None:
        self.path = fspath(path)
        try:
            self._container = av.open(self.path, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoError(f"{self.path} cannot be opened as a video or image: {reason}") from error
        if not self._container.streams.video:
            self.close()
            raise VideoError(f"{self.path} has no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.fps = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.time_base = Fraction(self._stream.time_base or 1 / self.fps)
        self._frames = self._decode()
        first = next(self._frames, None)
        if first is None:
            self.close()
            raise VideoError(f"{self.path} holds no frames")
        self._shape = first.pixels.shape
        self.height, self.width = fit_size(size, *first.pixels.shape[:2])
        self._frames = itertools.chain([first], self._frames)

    @property
    def frame_count(self) -> int | None:
        """Frames promised by the header, or estimated from the duration; None when neither is known."""
        if self._stream.frames:
            return int(self._stream.frames)
        if self._container.duration and self._container.duration > 0:
            return max(1, round(Fraction(self._container.duration, av.time_base) * self.fps))
        return None

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            if frame.pixels.shape != self._shape:
                raise VideoError(f"{self.path} changes its frame size in the middle; cut it there first")
            yield Frame(resize(frame.pixels, self.height, self.width), frame.pts)

    def _decode(self) -> Iterator[Frame]:
        packets = decoded = 0
        pts = -1
        step = max(1, round(1 / (self.fps * self.time_base)))
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                if packet.is_corrupt:
                    raise VideoError(
                        f"{self.path} is broken or truncated after frame {decoded}; repair or re-download it"
                    )
                for raw in packet.decode():
                    decoded += 1
                    # Timestamps may be missing or run backwards in broken files; ours always rise.
                    pts = raw.pts if raw.pts is not None and raw.pts > pts else max(pts + step, 0)
                    pixels = np.asarray(raw.to_ndarray(format="rgb24"), np.uint8)
                    if raw.rotation % 360:
                        pixels = np.ascontiguousarray(np.rot90(pixels, raw.rotation // 90))
                    yield Frame(pixels, pts)
        except av.FFmpegError as error:
            raise VideoError(
                f"{self.path} is broken after frame {decoded}: {error.strerror}; repair or re-download it"
            ) from error
        # Matroska promises no frames but a duration; a tenth of it and a second may be sound, or rounding.
        promised = self._stream.duration and self._stream.duration * self.time_base
        promised = promised or Fraction(self._container.duration or 0, av.time_base)
        if not self._stream.frames and (pts + step) * self.time_base < promised * Fraction(9, 10) - 1:
            raise VideoError(
                f"{self.path} is truncated: its header promises {float(promised):.1f} seconds, the file ends after "
                f"{float((pts + step) * self.time_base):.1f}; repair or re-download it"
            )
        if packets < self._stream.frames:
            raise VideoError(
                f"{self.path} is truncated: its header promises {self._stream.frames} frames, "
                f"the file ends after {packets}; repair or re-download it"
            )

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
