"""What every source of frames has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.video.display import Display


@dataclass(frozen=True)
class Frame:
    """One picture: `pixels` uint8 `H W 3` RGB, `pts` in units of the clip's time base, and so `duration`, if known."""

    pixels: NDArray[np.uint8]
    pts: int
    duration: int | None = None


@dataclass(frozen=True)
class Picture:
    """One picture of a source before it becomes pixels, upright `height` by `width`; times as those of a Frame.

    draw: gives uint8 `H W 3` RGB; where the source `shrinks`, of any height and width up to its own, else of its own.
    """

    height: int
    width: int
    draw: Callable[[int, int], NDArray[np.uint8]]
    shrinks: bool
    pts: int
    duration: int | None = None

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], pts: int, duration: int | None = None) -> Picture:
        """One that is pixels already."""
        return cls(pixels.shape[0], pixels.shape[1], lambda height, width: pixels, False, pts, duration)


TRANSPARENT = "it has transparency, which is dropped: the colours below it count"


class Damage(Enum):
    """What becomes of a damaged source: an error, counted unless the end is missing, or counted in any case."""

    REFUSED = "refused"
    COUNTED = "counted"
    ACCEPTED = "accepted"


@dataclass(frozen=True)
class Opening:
    """How a source is opened.

    raw: `WxH:FORMAT:FPS` of frames without header; options: FFmpeg's, by name; stream: FFmpeg's number of the video
    stream to take, None for its own choice; threads: that decode, None for one on each core that may be used; tone_map:
    HDR pictures become ordinary ones.
    """

    damage: Damage = Damage.REFUSED
    raw: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    stream: int | None = None
    threads: int | None = None
    tone_map: bool = False


class Source(Protocol):
    """Where frames come from, one at a time. Raises VideoError."""

    fps: Fraction
    time_base: Fraction
    live: bool  # frames come when they come; who is late misses them
    sound: bool  # there is sound beside the pictures
    replays: bool  # opened again, it gives the same frames again

    @property
    def jump(self) -> int | None:
        """The `pts` of the first picture so far whose own time does not follow those before it."""
        ...

    @property
    def display(self) -> Display:
        """How the pictures are meant to be shown; known after the first one."""
        ...

    @property
    def frame_count(self) -> int | None:
        """Frames promised by the source, or estimated from its duration; None when neither is known."""
        ...

    def pictures(self) -> Iterator[Picture]:
        """Pictures from here on, `pts` rising."""
        ...

    def seek(self, pts: int) -> bool:
        """Prepare for the frames from the one on show at `pts` on.

        True: `pictures`, called anew, begins at or before it. False: the source goes on where it is.
        """
        ...

    def notes(self) -> list[str]:
        """What was found in the pictures so far that a user must know, one line each."""
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...
