"""A clip from its file to frames, in pieces that can go from one process to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.dataset.job import EncodeRecipe, Job, Outcome, done, failure
from vidtok_runtime.errors import MismatchError, TokenFileError
from vidtok_runtime.files import is_file
from vidtok_runtime.pipeline.clip_encoder import ClipFacts
from vidtok_runtime.pipeline.files import warn
from vidtok_runtime.tokens.tokens import TokenInfo, TokenReader
from vidtok_runtime.video.reader import VideoReader

_PIECE = 1 << 20  # bytes of frames, or one frame


class ClipStart(NamedTuple):
    """A clip begins, with frames of this size."""

    height: int
    width: int


class ClipFrames(NamedTuple):
    """Its next frames, uint8 `n H W 3`, and their times."""

    pixels: NDArray[np.uint8]
    pts: Sequence[int]


# A start, frames as often as need be, facts; an outcome, where it comes, is the last and in place of what is left.
Reading = ClipStart | ClipFrames | ClipFacts | Outcome


def read_clip(recipe: EncodeRecipe, job: Job, threads: int | None) -> Iterator[Reading]:
    """A clip as it is read, decoded by so many threads (None: one a core); errors are an outcome."""
    try:
        # Files get their names when they are complete: one that is there was made by a run that was killed
        # before it could say so.
        if is_file(job.target) and (info := _finished(recipe, job)):
            yield done(job, info)
            return
        selection, opening = job.asked(recipe)
        with VideoReader(job.source, selection, replace(opening, threads=threads)) as reader:
            yield ClipStart(reader.height, reader.width)
            frames, count = iter(reader), max(1, _PIECE // (3 * reader.height * reader.width))
            last: int | None = None
            while piece := list(islice(frames, count)):
                yield ClipFrames(np.stack([frame.pixels for frame in piece]), [frame.pts for frame in piece])
                last = piece[-1].duration
            warn(job.clip, reader.notes())
            yield ClipFacts.of(reader, last)
    except Exception as error:  # of a library, too, about this clip: the others go on
        yield failure(job, error)


def _finished(recipe: EncodeRecipe, job: Job) -> TokenInfo | None:
    try:
        reader = TokenReader(job.target)
        reader.verify()
        reader.info.check_bundle(recipe.tokenizer().manifest)
    except (TokenFileError, MismatchError):
        return None
    return reader.info
