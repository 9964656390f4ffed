"""Where a file can be entered, so that its first frames need not be decoded."""

from __future__ import annotations

from typing import Any

import av

from vidtok_runtime.video.ffmpeg_input import FFmpegInput

_BREAK = 10  # seconds between two packets


def untimed(container: Any) -> bool:
    """Whether a format has no times of presentation, so that frames have those at which they come out of the decoder.

    What FFmpeg says in their place is a guess, which B-frames make wrong.
    """
    return bool(container.format.name == "avi")


def entry(opened: FFmpegInput, stream: Any, pts: int, breaks: bool) -> int | None:
    """The time of the first frame that a seek to `pts` leads to, if it may be trusted; None: it may not.

    It starts at a key frame, from which on frames are whole and have times, the first two of them no later than `pts`:
    the time of a single frame may be wrong. breaks: times of the format may jump, so that all packets up to there are
    looked at first.
    """
    key: int | None = None
    first: int | None = None
    guessed = untimed(opened.container)
    try:
        if breaks and not _steady(opened, stream, pts):
            return None
        opened.seek(pts, stream)
        for packet in opened.packets(stream):
            if key is None and packet.is_keyframe:
                key = packet.dts if guessed else packet.pts
            for frame in packet.decode():
                time = frame.dts if guessed else frame.pts
                if key is None or time is None or time > pts:
                    return None
                if first is not None:
                    return first
                # Guessed times do not tell what is shown before the key frame; such frames come out before it.
                if time >= key and not frame.is_corrupt and (frame.key_frame or not guessed):
                    first = int(time)
    except (av.FFmpegError, OSError):
        return None
    return None


def _steady(opened: FFmpegInput, stream: Any, pts: int) -> bool:
    before: int | None = None
    for packet in opened.packets(stream):
        if packet.dts is None:
            continue
        if before is not None and not 0 <= (packet.dts - before) * stream.time_base <= _BREAK:
            return False
        if packet.dts > pts:
            return True
        before = packet.dts
    return True
