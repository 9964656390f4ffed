"""What is taken of a source: from when to when, at which rate, at which size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.video.source import Frame

FITS = ("stretch", "crop", "pad")
_LONGEST_STILL = 600  # seconds


@dataclass(frozen=True)
class Selection:
    """What is taken of a source; None anywhere: as the source is.

    start, end: seconds since the first frame; frames at `start` and before `end` are taken, and times count from
    `start`. fps: frames a second, by repeating or leaving out frames. size: `WxH`, or `N` for the shorter side.
    fit: how a picture of another shape gets into `WxH`: stretch, crop (its middle), pad (black around it).
    Raises InputError.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    fps: Fraction | None = None
    size: str | None = None
    fit: str = "stretch"

    def __post_init__(self) -> None:
        fit_size(self.size, 1, 1)
        if self.fit not in FITS:
            raise InputError(f"a picture is fitted by one of {', '.join(FITS)}, got {self.fit!r}")
        if self.start is not None and self.start < 0:
            raise InputError(f"the start is 0 or more seconds, got {float(self.start):g}")
        if self.end is not None and self.end <= (self.start or 0):
            raise InputError(f"the end lies behind the start, got {float(self.end):g} seconds")
        if self.fps is not None and not Fraction(1, 100) <= self.fps <= 1000:
            raise InputError(f"a frame rate lies in 0.01..1000, got {float(self.fps):g}")

    @property
    def any_shape(self) -> bool:
        """Whether pictures of every size end up at the same one."""
        return self.size is not None and "x" in self.size.lower()

    def pictures(self, frames: Iterator[Frame], time_base: Fraction, first: int, name: str) -> Iterator[Frame]:
        """The frames that the times and the rate ask for; `pts` are those of `frames`, or counted at `fps`.

        first: the time of the source's first frame. Raises VideoError, in which the source is called `name`, rather
        than repeat a picture for more than ten minutes.
        """
        begin = first + (self.start or 0) / time_base
        end = None if self.end is None else first + self.end / time_base
        if self.fps is not None:
            yield from _at_rate(frames, begin, end, time_base, self.fps, name)
            return
        for frame in frames:
            if end is not None and frame.pts >= end:
                return
            if frame.pts >= begin:
                shown = frame.duration
                if end is not None and shown is not None:
                    shown = max(1, min(shown, round(end - frame.pts)))
                yield Frame(frame.pixels, frame.pts if self.start is None else round(frame.pts - begin), shown)


def _at_rate(
    frames: Iterator[Frame], begin: Fraction, end: Fraction | None, time_base: Fraction, fps: Fraction, name: str
) -> Iterator[Frame]:
    """The frame on show at every 1/`fps` from `begin` to `end`, or as long as the last frame is shown.

    Timestamps may be off by half a tick. `pts` of the result are counted.
    """
    half, step = Fraction(1, 2), 1 / (fps * time_base)
    count = 0

    def repeated(frame: Frame, until: Fraction) -> Iterator[Frame]:
        nonlocal count
        until = until if end is None else min(end, until)
        if (until - max(begin, Fraction(frame.pts))) * time_base > _LONGEST_STILL:
            raise VideoError(
                f"{name} has a picture that lasts {float((until - frame.pts) * time_base):.0f} seconds, perhaps "
                f"because its times jump, and would be repeated {int((until - frame.pts) / step)} times; cut the clip "
                "there, or leave out --fps"
            )
        while begin + count * step < until - half:
            yield Frame(frame.pixels, count)
            count += 1

    shown: Frame | None = None
    for frame in frames:
        if shown is not None:
            yield from repeated(shown, Fraction(frame.pts))
        if end is not None and frame.pts >= end:
            return
        shown = frame
    if shown is not None:  # one whose end is not known is shown for a moment
        yield from repeated(shown, Fraction(shown.pts + (shown.duration or 1)))


def parse_seconds(text: str) -> Fraction:
    """A time: 90, 1:30 or 0:01:30.5; raises InputError."""
    try:
        parts = [Fraction(part) for part in text.split(":")]
    except (ValueError, ZeroDivisionError):
        parts = []
    if not 1 <= len(parts) <= 3 or min(parts) < 0:
        raise InputError(f"{text!r} is no time; give seconds, MM:SS or HH:MM:SS, like 90, 1:30 or 0:01:30.5")
    return sum((part * 60**i for i, part in enumerate(reversed(parts))), Fraction(0))


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


def fitted(pixels: NDArray[np.uint8], height: int, width: int, fit: str) -> NDArray[np.uint8]:
    """Resize `H W 3` to a size of perhaps another shape: stretch, crop or pad."""
    if fit == "stretch":
        return resize(pixels, height, width)
    ratios = Fraction(height, pixels.shape[0]), Fraction(width, pixels.shape[1])
    scale = max(ratios) if fit == "crop" else min(ratios)
    scaled = resize(pixels, *(max(1, round(n * scale)) for n in pixels.shape[:2]))
    if fit == "crop":
        top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
        return np.ascontiguousarray(scaled[top : top + height, left : left + width])
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
    out[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return out
