"""What is taken of a source: from when to when, at which rate, at which size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import frame_rate
from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.video.source import Frame, Picture

FITS = ("stretch", "crop", "pad")
RESAMPLINGS = ("planes", "rgb")
_LONGEST_STILL = 600  # seconds
_Shown = TypeVar("_Shown", Frame, Picture)


@dataclass(frozen=True)
class Selection:
    """What is taken of a source; None anywhere: as the source is.

    start, end: seconds since the first frame; frames at `start` and before `end` are taken, and times count from
    `start`. fps: frames a second, by repeating or leaving out frames, with a denominator up to a million. size: `WxH`,
    or `N` for the shorter side. fit: how a picture of another shape gets into `WxH`: stretch, crop (its middle), pad
    (black around it).
    resampling: how pictures shrink. planes: luma and chroma by area, then RGB is made of them; rgb: RGB is made of
    the whole picture, then it shrinks by area, which is slower and further from the exact mean. Raises InputError.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    fps: Fraction | None = None
    size: str | None = None
    fit: str = "stretch"
    resampling: str = RESAMPLINGS[0]

    def __post_init__(self) -> None:
        fit_size(self.size, 1, 1)
        if self.fit not in FITS:
            raise InputError(f"a picture is fitted by one of {', '.join(FITS)}, got {self.fit!r}")
        if self.resampling not in RESAMPLINGS:
            raise InputError(f"pictures shrink by one of {', '.join(RESAMPLINGS)}, got {self.resampling!r}")
        if self.start is not None and self.start < 0:
            raise InputError(f"the start is 0 or more seconds, got {float(self.start):g}")
        if self.end is not None and self.end <= (self.start or 0):
            raise InputError(f"the end lies behind the start, got {float(self.end):g} seconds")
        object.__setattr__(self, "fps", frame_rate(self.fps))
        if self.fps is not None and not Fraction(1, 100) <= self.fps <= 1000:
            raise InputError(f"a frame rate lies in 0.01..1000, got {float(self.fps):g}")

    @property
    def any_shape(self) -> bool:
        """Whether pictures of every size end up at the same one."""
        return self.size is not None and "x" in self.size.lower()

    def shown(self, frames: Iterator[_Shown], time_base: Fraction, first: int, name: str) -> Iterator[_Shown]:
        """The frames that the times and the rate ask for; `pts` are those of `frames`, or counted at `fps`.

        first: the time of the source's first frame. Raises VideoError, in which the source is called `name`, rather
        than repeat a picture for more than ten minutes.
        """
        begin = first + (self.start or 0) / time_base
        end = None if self.end is None else first + self.end / time_base
        if self.fps is not None:
            yield from _at_rate(frames, begin, end, time_base, self.fps, name)
            return
        zero = self.zero(time_base, first)
        for frame in frames:
            if end is not None and frame.pts >= end:
                return
            if frame.pts >= begin:
                shown = frame.duration
                if end is not None and shown is not None:
                    shown = max(1, min(shown, round(end - frame.pts)))
                yield replace(frame, pts=frame.pts - zero, duration=shown)

    def zero(self, time_base: Fraction, first: int) -> int:
        """What is taken off the times of frames, a whole number, so that no two become one."""
        return 0 if self.start is None else first + math.floor(self.start / time_base + Fraction(1, 2))


def _at_rate(
    frames: Iterator[_Shown], begin: Fraction, end: Fraction | None, time_base: Fraction, fps: Fraction, name: str
) -> Iterator[_Shown]:
    """The frame on show at every 1/`fps` from `begin` to `end`, or as long as the last frame is shown.

    Timestamps may be off by half a tick. `pts` of the result are counted.
    """
    half, step = Fraction(1, 2), 1 / (fps * time_base)
    count = 0

    def repeated(frame: _Shown, until: Fraction) -> Iterator[_Shown]:
        nonlocal count
        until = until if end is None else min(end, until)
        if (until - max(begin, Fraction(frame.pts))) * time_base > _LONGEST_STILL:
            raise VideoError(
                f"{name} has a picture that lasts {float((until - frame.pts) * time_base):.0f} seconds, perhaps "
                f"because its times jump, and would be repeated {int((until - frame.pts) / step)} times; cut the clip "
                "there, or leave out --fps"
            )
        while begin + count * step < until - half:
            yield replace(frame, pts=count, duration=None)
            count += 1

    shown: _Shown | None = None
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


def scaled_size(height: int, width: int, target: tuple[int, int], fit: str) -> tuple[int, int]:
    """Height and width that a picture gets before it is cropped or padded to the target."""
    if fit == "stretch":
        return target
    ratios = Fraction(target[0], height), Fraction(target[1], width)
    scale = max(ratios) if fit == "crop" else min(ratios)
    return max(1, round(height * scale)), max(1, round(width * scale))


def placed(scaled: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle of `H W 3` where it is too large, in the middle of black where it is too small."""
    if scaled.shape[:2] == (height, width):
        return scaled
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    if top >= 0 and left >= 0:
        return np.ascontiguousarray(scaled[top : top + height, left : left + width])
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - scaled.shape[0]) // 2, (width - scaled.shape[1]) // 2
    out[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return out
