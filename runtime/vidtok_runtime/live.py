"""A source into a folder of segments that can be read while it grows."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
from tqdm import tqdm

from vidtok_runtime.arrivals import Arrivals
from vidtok_runtime.errors import OutputError, VidtokError
from vidtok_runtime.pipeline import warn
from vidtok_runtime.segments import alone_in, check_follows, segment_number, segment_path, segments_in
from vidtok_runtime.selection import Selection
from vidtok_runtime.source import Frame, Opening
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens import TokenReader, TokenWriter
from vidtok_runtime.video_in import VideoReader


@dataclass(frozen=True)
class Segmentation:
    """Where a segment ends: after `frames`, or before the frame that comes `seconds` after its first.

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
        self._writer: TokenWriter | None = None
        self._pending: list[Frame] = []
        self._pts = array("q")
        self._began = 0.0
        self.segments = self.frames = 0

    def add(self, frame: Frame) -> None:
        """Take one frame, behind the end of the running segment where that is due."""
        if self._pts and (
            len(self._pts) == self._plan.frames
            or (self._plan.frames is None and (frame.pts - self._pts[0]) * self._reader.time_base >= self._plan.seconds)
        ):
            self.finish()
        if self._writer is None:
            target = segment_path(self._folder, self._number)
            self._writer = TokenWriter(target, self._tok.manifest.codebook_size, half=self._half)
            self._stream = self._tok.encoder()
            self._began = time.monotonic()
        self._pending.append(frame)
        self._pts.append(frame.pts)
        if len(self._pending) == self._tok.manifest.encoder_chunk:
            self._encode()

    @property
    def overdue(self) -> bool:
        """Whether the running segment has been open for twice its length, because frames stay away."""
        return self._writer is not None and time.monotonic() - self._began > 2 * self._plan.seconds

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
        self._writer.close(replace(info, display=reader.display), np.frombuffer(self._pts, np.int64))
        self._writer, self._pts = None, array("q")
        self._number += 1
        self.segments += 1
        self.frames += count

    def discard(self) -> None:
        """Drop a running segment that could not be finished."""
        if self._writer is not None:
            self._writer.discard()


@dataclass(frozen=True)
class Streamed:
    """What a run of `stream` wrote."""

    segments: int = 0
    frames: int = 0
    dropped: int = 0


def stream_into(
    tok: Tokenizer,
    place: str | Path,
    folder: Path,
    *,
    selection: Selection | None = None,
    opening: Opening | None = None,
    plan: Segmentation | None = None,
    resume: bool = False,
    half: bool = False,
    stop: threading.Event | None = None,
    quiet: bool = False,
) -> Streamed:
    """Encode a source into segments until it ends or `stop` is set; what has arrived by then is encoded.

    resume: go on behind the segments in the folder. A file or a folder of images goes on with the first frame that is
    not there yet; of any other source every frame is new, and its timestamps go on behind the last. When the source
    fails, what was read before is finished and the error raised. Raises VideoError, OutputError, TokenFileError.
    """
    plan, stop = plan or Segmentation(), stop or threading.Event()
    with alone_in(folder):
        last = _last(tok, folder, resume=resume)
        arrivals = Arrivals(lambda: VideoReader(place, selection, opening), plan.room)
        try:
            reader = _opened(arrivals, stop)
            if reader is None:
                return Streamed()
            own = tok.describe(0, reader.height, reader.width, reader.fps, reader.time_base)
            if last is not None:
                check_follows(last.info, own, reader.path)
            segments = SegmentFolder(tok, folder, reader, plan, segment_number(last.path) + 1 if last else 0, half=half)
            with tqdm(total=reader.frame_count, desc="stream", unit="frame", disable=quiet) as bar:
                try:
                    _run(segments, arrivals, _placed(reader, last), stop, bar)
                finally:
                    segments.discard()
            warn(reader.path, reader.notes())
            return Streamed(segments.segments, segments.frames, arrivals.dropped)
        finally:
            arrivals.close()


def _last(tok: Tokenizer, folder: Path, *, resume: bool) -> TokenReader | None:
    found = sorted(folder.glob("segment-*.safetensors"))
    if not found:
        return None
    if not resume:
        raise OutputError(f"{folder} holds segments already; give --resume to go on behind them, or another folder")
    last = TokenReader(segments_in(folder)[-1])
    last.info.check_bundle(tok.manifest)
    return last


def _opened(arrivals: Arrivals, stop: threading.Event) -> VideoReader | None:
    while not stop.is_set():
        try:
            reader = arrivals.get(0.1)
        except Empty:
            continue
        assert isinstance(reader, VideoReader)
        return reader
    return None


def _placed(reader: VideoReader, last: TokenReader | None) -> Callable[[Frame], Frame | None]:
    """Gives a frame its timestamp behind the last segment; None for a frame that is there already."""
    if last is None:
        return lambda frame: frame
    end, shift = int(last.pts()[-1]), 0
    if reader.replays:
        return lambda frame: frame if frame.pts > end else None

    def behind(frame: Frame) -> Frame:
        nonlocal shift
        step = max(1, round(1 / (reader.fps * reader.time_base)))
        shift = shift or end + step - frame.pts
        return replace(frame, pts=frame.pts + shift)

    return behind


def _run(
    segments: SegmentFolder,
    arrivals: Arrivals,
    placed: Callable[[Frame], Frame | None],
    stop: threading.Event,
    bar: Any,
) -> None:
    """Encode what arrives until the source ends or fails or `stop` is set, and finish the running segment."""

    def take(frame: Frame) -> None:
        wanted = placed(frame)
        if wanted is not None:
            segments.add(wanted)
            bar.update()

    failure: VidtokError | None = None
    while not stop.is_set():
        try:
            frame = arrivals.get(0.1)
        except Empty:
            if segments.overdue:
                segments.finish()
            continue
        except VidtokError as error:
            failure = error
            break
        if frame is None:
            break
        assert isinstance(frame, Frame)
        take(frame)
    for frame in arrivals.waiting():
        take(frame)
    segments.finish()
    if failure is not None:
        raise failure
