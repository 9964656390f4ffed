"""Where a clip ends: what its container promises, what came, and how long the last picture is shown."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import av

from vidtok_runtime.video.missing_end import missing_end

_LASTS = re.compile(r"([0-9]+):([0-9]{2}):([0-9]{2}(?:\.[0-9]+)?)")


class Ending:
    """Watches the packets of an open container. path: of its file, where it is one."""

    def __init__(self, container: Any, stream: Any, path: str | None) -> None:
        self._container, self._stream, self._path = container, stream, path
        self._packets = 0
        self._last = self._last_of_all = Fraction(0)  # seconds
        self._torn = False
        self.entered = False  # behind its start, so that packets are not counted

    def saw(self, packet: Any) -> None:
        """Count a packet of any stream."""
        time = packet.dts if packet.pts is None else packet.pts
        end = Fraction(0) if time is None else (time + (packet.duration or 0)) * packet.time_base
        self._last_of_all = max(self._last_of_all, end)
        if packet.stream.index == self._stream.index and (packet.size or time is not None):
            self._packets += 1
            self._last = max(self._last, end)
            self._torn = packet.is_corrupt

    def missing(self) -> str:
        """What was promised and did not come, in words, once all packets were seen; an empty text for nothing."""
        missing = missing_end(self._path) if self._path else None
        if missing:
            return missing
        if self._torn:
            return "it ends within a frame"
        # Headers count what an edit list hides and pictures that are empty; an index does neither.
        frames = self._stream.frames and (len(self._stream.index_entries) or self._stream.frames)
        lasts = (self._stream.duration or 0) * self._stream.time_base
        if self._packets < frames and (self._last < lasts or not lasts) and not self.entered:
            return f"its header promises {frames} frames, the file ends after {self._packets}"
        # Without a count there is a duration, that of the longest stream; a tenth of it and a second may be rounding.
        promised = Fraction(self._container.duration or 0, av.time_base)
        came = self._last_of_all - Fraction(self._container.start_time or 0, av.time_base)
        if missing is None and not frames and came < promised * Fraction(9, 10) - 1:
            return f"its header promises {float(promised):.1f} seconds, the file ends after {float(came):.1f}"
        return ""

    def said(self) -> int | None:
        """When the pictures end by the header, not the sound beside them, in units of the time base; None: not said."""
        stream = self._stream
        names = self._container.format.name.split(",")
        tag = _LASTS.fullmatch(stream.metadata.get("DURATION", ""))
        alone = len(self._container.streams) == 1
        base = Fraction(stream.time_base)
        if "matroska" in names and tag:
            return round((3600 * int(tag[1]) + 60 * int(tag[2]) + Fraction(tag[3])) / base)
        if stream.duration and ("mov" in names or "avi" in names or ("matroska" in names and alone)):
            return int(stream.start_time or 0) + int(stream.duration)
        if "flv" in names and alone and self._container.duration:
            return round(Fraction(self._container.duration, av.time_base) / base)
        return None

    def shown(self, frame: Any) -> int:
        """How long the last frame is shown, in units of the time base; 0 where nothing says it."""
        left = int((self.said() or 0) - frame.pts)
        if "mov" in self._container.format.name and left > 0:
            return left  # durations of packets are those of decoding
        return max(int(frame.duration), left, 0)

    def frames(self, fps: Fraction) -> int | None:
        """About how many frames there are, by the header."""
        end = self.said()
        begin = self._stream.start_time or 0
        lasts = (
            Fraction(self._container.duration or 0, av.time_base)
            if end is None
            else (end - begin) * self._stream.time_base
        )
        count = max(1, round(lasts * fps)) if lasts > 0 else None
        if self._stream.frames and self._stream.frames < (count or math.inf):
            return int(self._stream.frames)
        return count
