"""Frames into segments, one after the other."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.segments import segment_path
from vidtok_runtime.tokens.tokens import TokenWriter
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.source import Frame


@dataclass(frozen=True)
class Segmentation:
    """Where a segment ends: with its last of `frames`, or before the frame that comes `seconds` after its first.

    room: frames that may wait to be encoded.
    """

    seconds: Fraction = Fraction(2)
    frames: int | None = None
    room: int = 32


class SegmentFolder:
    """Encodes frames into one segment after the other, each from a fresh state. Raises OutputError, InputError."""

    def __init__(
        self, tok: Tokenizer, folder: Path, reader: VideoReader, plan: Segmentation, number: int, *, half: bool
    ) -> None:
        self._tok, self._folder, self._reader, self._plan, self._half = tok, folder, reader, plan, half
        self._number = number
        self._step = tok.plan("encoder", reader.height, reader.width).chunk * tok.stream.time_factor
        self._writer: TokenWriter | None = None
        self._pending: list[Frame] = []
        self._pts = array("q")
        self._last_duration: int | None = None
        # A few frames may be less than what a network gives at once.
        self._length = max(plan.seconds, plan.frames / reader.fps) if plan.frames else plan.seconds
        self._latest = 0.0
        self.segments = self.frames = 0

    def add(self, frame: Frame) -> None:
        """Take one frame, behind the end of the running segment where that is due."""
        plan = self._plan
        if plan.frames is None and self._pts and (frame.pts - self._pts[0]) * self._reader.time_base >= plan.seconds:
            self.finish()
        if self._writer is None:
            target = segment_path(self._folder, self._number)
            self._writer = TokenWriter(target, self._tok.stream.codebook_size, half=self._half)
            self._stream = self._tok.encoder()
        self._latest = time.monotonic()
        self._pending.append(frame)
        self._pts.append(frame.pts)
        self._last_duration = frame.duration
        if len(self._pts) == plan.frames:
            self.finish()
        elif len(self._pending) == self._step:
            self._encode()

    @property
    def overdue(self) -> bool:
        """Whether no frame has come for twice the length of a segment."""
        return self._writer is not None and time.monotonic() - self._latest > 2 * self._length

    def _encode(self) -> None:
        assert self._writer is not None
        if self._pending:
            self._writer.append(self._stream.push(np.stack([frame.pixels for frame in self._pending])))
            self._pending = []

    def finish(self) -> None:
        """End the running segment, if there is one, and give it its name."""
        if self._writer is None:
            return
        self._encode()
        self._writer.append(self._stream.finish())
        reader, count = self._reader, len(self._pts)
        info = self._tok.describe(count, reader.height, reader.width, reader.fps, reader.time_base)
        info = replace(info, display=reader.display, resampling=reader.resampling).lasting(self._last_duration)
        self._writer.close(info, np.frombuffer(self._pts, np.int64))
        self._writer, self._pts = None, array("q")
        self._number += 1
        self.segments += 1
        self.frames += count

    def discard(self) -> None:
        """Drop a running segment that could not be finished."""
        if self._writer is not None:
            self._writer.discard()
