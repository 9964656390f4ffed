"""Clips from their files to frames, in pieces that can go from one process to another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.dataset.clips import PICTURES
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome, done, failure, left_of
from vidtok_runtime.errors import MismatchError, TokenFileError
from vidtok_runtime.files import is_file
from vidtok_runtime.pipeline.clip_encoder import ClipFacts
from vidtok_runtime.pipeline.files import warn
from vidtok_runtime.tokens.tokens import TokenInfo, TokenReader
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.source import Frame

_PIECE = 1 << 20  # bytes of frames, or one frame


class ClipStart(NamedTuple):
    """Clips that share calls begin, with frames of this size; the places of those that are over stay empty."""

    batch: Batch
    height: int
    width: int


class ClipFrames(NamedTuple):
    """The next frames of a clip, uint8 `n H W 3`, and their times."""

    pixels: NDArray[np.uint8]
    pts: Sequence[int]


# A start for clips that share calls; then, for each, frames as often as need be, and facts. An outcome, where it comes,
# is the last of a clip and in place of what is left.
Reading = ClipStart | ClipFrames | ClipFacts | Outcome


def read_batch(recipe: EncodeRecipe, batch: Batch, threads: int | None) -> Iterator[tuple[Job, Reading]]:
    """Clips as they are read, decoded by so many threads each (None: one per core); errors are outcomes.

    Those of one size and, as far as their files tell, one length share calls and come in turns.
    """
    left = left_of(batch)
    for job in list(left.values()):
        if finished := _finished(recipe, job):
            yield job, finished
            del left[job.clip]
    with ExitStack() as files:
        alike: dict[object, dict[Job, VideoReader]] = {}
        for job in batch if left else ():
            try:
                reader = files.enter_context(_opened(recipe, job, threads))
            except Exception as error:  # of a library, too, about this clip: the others go on
                if job.clip in left:
                    yield job, failure(job, error)
                continue
            about = reader.height, reader.width, _length(reader, job)
            alike.setdefault(about, {})[job._replace(over=job.clip not in left)] = reader
        for readers in alike.values():
            yield from _read(readers)


def _finished(recipe: EncodeRecipe, job: Job) -> Outcome | None:
    """The outcome of a clip whose file is there, and whole."""
    # Files get their names when they are complete: one that is there was made by a run that was killed before it could
    # say so.
    try:
        info = _info_of(recipe, job) if is_file(job.target) else None
        return None if info is None else done(job, info)
    except Exception as error:
        return failure(job, error)


def _info_of(recipe: EncodeRecipe, job: Job) -> TokenInfo | None:
    try:
        reader = TokenReader(job.target)
        reader.verify()
        reader.info.check_bundle(recipe.tokenizer().manifest)
    except (TokenFileError, MismatchError):
        return None
    return reader.info


def _opened(recipe: EncodeRecipe, job: Job, threads: int | None) -> VideoReader:
    selection, opening = job.asked(recipe)
    return VideoReader(job.source, selection, replace(opening, threads=threads))


def _length(reader: VideoReader, job: Job) -> object:
    """Frames as far as the file tells; what is like no other's length where it tells nothing."""
    return reader.frame_count or (1 if PurePosixPath(job.clip).suffix.lower() in PICTURES else job.clip)


def _read(readers: dict[Job, VideoReader]) -> Iterator[tuple[Job, Reading]]:
    """Clips of one size, a piece of each in turn."""
    wanted = [(job, reader) for job, reader in readers.items() if not job.over]
    if not wanted:
        return
    first, reader = wanted[0]
    yield first, ClipStart(tuple(readers), reader.height, reader.width)
    turns = deque[tuple[Job, VideoReader, Iterator[Frame], int | None]](
        (job, reader, iter(reader), None) for job, reader in wanted
    )
    count = max(1, _PIECE // (3 * reader.height * reader.width))
    while turns:
        job, reader, frames, last = turns.popleft()
        try:
            if piece := list(islice(frames, count)):
                yield job, ClipFrames(np.stack([frame.pixels for frame in piece]), [frame.pts for frame in piece])
                turns.append((job, reader, frames, piece[-1].duration))
            else:
                warn(job.clip, reader.notes())
                yield job, ClipFacts.of(reader, last)
        except Exception as error:
            yield job, failure(job, error)
