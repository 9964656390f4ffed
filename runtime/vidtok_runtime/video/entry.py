"""Where a file can be entered, so that its first frames need not be decoded."""

from __future__ import annotations

from typing import Any

import av

_BREAK = 10  # seconds between two packets


def entry(container: Any, stream: Any, pts: int, breaks: bool) -> int | None:
    """The time of the first frame that a seek to `pts` leads to, if it may be trusted; None: it may not.

    It starts at a key frame, from which on frames are whole and have times, the first two of them no later than `pts`:
    the time of a single frame may be wrong. breaks: times of the format may jump, so that all packets up to there are
    looked at first.
    """
    key: int | None = None
    first: int | None = None
    try:
        if breaks and not _steady(container, stream, pts):
            return None
        container.seek(pts, stream=stream)
        for packet in container.demux(stream):
            if key is None and packet.is_keyframe:
                key = packet.pts
            for frame in packet.decode():
                if key is None or frame.pts is None or frame.pts > pts:
                    return None
                if first is not None:
                    return first
                if frame.pts >= key and not frame.is_corrupt:
                    first = int(frame.pts)
    except av.FFmpegError:
        return None
    return None


def _steady(container: Any, stream: Any, pts: int) -> bool:
    before: int | None = None
    for packet in container.demux(stream):
        if packet.dts is None:
            continue
        if before is not None and not 0 <= (packet.dts - before) * stream.time_base <= _BREAK:
            return False
        if packet.dts > pts:
            return True
        before = packet.dts
    return True
