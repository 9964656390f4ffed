"""Which part of a file a clip is: from when to when, and which of its video streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import PurePosixPath
from typing import NamedTuple

from vidtok_runtime.errors import InputError
from vidtok_runtime.video.selection import Selection, parse_seconds
from vidtok_runtime.video.source import Opening

PARTS = ("start", "end", "stream")  # columns of a list


class ClipPart(NamedTuple):
    """Seconds since the first frame, as text that Fraction reads, and FFmpeg's number of a stream; None: not said."""

    start: str | None = None
    end: str | None = None
    stream: int | None = None

    @classmethod
    def of(cls, columns: Mapping[str, str]) -> ClipPart:
        """What the columns of a row ask for; raises InputError."""
        start, end, stream = (columns.get(name, "").strip() for name in PARTS)
        begin, behind = (str(parse_seconds(text)) if text else None for text in (start, end))
        if stream and not (stream.isascii() and stream.isdigit()):
            raise InputError(f"stream is FFmpeg's number of a video stream, got {stream!r}")
        part = cls(begin, behind, int(stream) if stream else None)
        part.selection(Selection())
        return part

    def selection(self, default: Selection) -> Selection:
        """The part, and what is said for all clips where it says nothing; raises InputError."""
        start, end = (None if time is None else Fraction(time) for time in (self.start, self.end))
        return replace(
            default, start=default.start if start is None else start, end=default.end if end is None else end
        )

    def opening(self, default: Opening) -> Opening:
        """Likewise of the stream."""
        return default if self.stream is None else replace(default, stream=self.stream)

    def named(self, name: str) -> str:
        """The name of a clip that is this part of the file `name`: `a@1.5-3@stream2.mp4`."""
        path = PurePosixPath(name)
        marks = [] if (self.start, self.end) == (None, None) else [f"{_text(self.start or 0)}-{_text(self.end)}"]
        marks += [] if self.stream is None else [f"stream{self.stream}"]
        return str(path.with_name("@".join([path.stem, *marks]) + path.suffix)) if marks else name


WHOLE = ClipPart()


def _text(seconds: str | int | None) -> str:
    """Microseconds and no zeros behind them."""
    return "" if seconds is None else f"{float(Fraction(seconds)):.6f}".rstrip("0").rstrip(".")
