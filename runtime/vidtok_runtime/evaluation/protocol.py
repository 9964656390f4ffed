"""Which frames of a clip are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import VideoError
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Frame, Opening

_MAX_KEPT = 2**26  # bytes of pixels of one clip


@dataclass(frozen=True)
class Protocol:
    """What is measured of a clip; None anywhere: as the clip is.

    The first `frames` frames at `fps`, the shorter side resized to `size` pixels (area), the centre square cut out, of
    FFmpeg's video stream `stream`.
    """

    frames: int | None = 17
    size: int | None = 256
    fps: Fraction | None = Fraction(30)
    stream: int | None = None

    def __str__(self) -> str:
        picture = f"centre {self.size}x{self.size} of shorter side {self.size}" if self.size else "whole pictures"
        rate = f"{float(self.fps):g} frames a second" if self.fps else "own frame rate"
        stream = "" if self.stream is None else f" of stream {self.stream}"
        return f"{self.frames or 'all'} frames{stream} at {rate}, {picture}; means over frames, then over clips"


def published_frames(manifest: Manifest) -> int:
    """Frames of a clip that published figures are about: 17, or fewer where the last group would be filled up."""
    stream, groups = manifest.stream, manifest.stream.groups
    if groups is None:
        return 17

    def last_group(frames: int) -> int:
        more = max(0, frames - groups.frames)
        step = groups.frames - groups.shared_frames
        return groups.shared_frames + 1 + (more - 1) % step if more else frames

    def whole(frames: int) -> bool:
        taken = stream.front_frames + last_group(frames)
        return stream.length.padded(taken) == taken

    return next((frames for frames in range(17, 0, -1) if whole(frames)), min(17, groups.frames))


class Excerpt:
    """The frames of a clip that a protocol asks for, one at a time; iterate as often as need be.

    A short excerpt is read once and kept. Raises VideoError when the clip has fewer frames.
    """

    def __init__(self, path: Path, protocol: Protocol) -> None:
        self.path = path
        self.protocol = protocol
        with self._reader() as reader:
            self.height, self.width = (protocol.size or n for n in (reader.height, reader.width))
            self.fps = reader.fps
        self._kept: list[Frame] | None = None

    def _reader(self) -> VideoReader:
        size = str(self.protocol.size) if self.protocol.size else None
        # As all figures so far were measured.
        selection = Selection(fps=self.protocol.fps, size=size, resampling="rgb")
        return VideoReader(self.path, selection, Opening(stream=self.protocol.stream))

    def __iter__(self) -> Iterator[Frame]:
        bytes_needed = 3 * (self.protocol.frames or _MAX_KEPT) * self.height * self.width
        if self._kept is None and bytes_needed < _MAX_KEPT:
            self._kept = list(self._read())
        yield from self._read() if self._kept is None else self._kept

    def _read(self) -> Iterator[Frame]:
        wanted, count = self.protocol.frames, 0
        with self._reader() as reader:
            for frame in islice(reader, wanted):
                count += 1
                yield _square(frame, self.protocol.size)
        if wanted and count < wanted:
            raise VideoError(f"{self.path} has {count} of the {wanted} frames that the protocol asks for")


def _square(frame: Frame, size: int | None) -> Frame:
    if size is None:
        return frame
    top, left = ((n - size) // 2 for n in frame.pixels.shape[:2])
    return replace(frame, pixels=frame.pixels[top : top + size, left : left + size])
