"""A source into a folder of segments that can be read while it grows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any

from tqdm import tqdm

from vidtok_runtime.errors import OutputError, VidtokError
from vidtok_runtime.pipeline.files import warn
from vidtok_runtime.pipeline.frame_queue import Arrivals
from vidtok_runtime.pipeline.segment_writer import Segmentation, SegmentFolder
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.segments import alone_in, check_follows, segment_number, segments_in
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Frame, Opening


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
                    count = arrivals.dropped
                    late = [f"{count} frames were dropped: encoding was too slow for them"] if count else []
                    warn(reader.path, [*reader.notes(), *late])
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
    end = int(last.pts()[-1])
    shift: int | None = None
    if reader.replays:
        return lambda frame: frame if frame.pts > end else None

    def behind(frame: Frame) -> Frame:
        nonlocal shift
        step = max(1, round(1 / (reader.fps * reader.time_base)))
        if shift is None:
            shift = end + step - frame.pts
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
