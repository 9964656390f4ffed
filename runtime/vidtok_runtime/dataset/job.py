"""What there is to do with a clip, and what became of it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from vidtok_runtime.bundle.manifest import sha256_of
from vidtok_runtime.dataset.part import WHOLE, ClipPart
from vidtok_runtime.errors import OutputError, VidtokError
from vidtok_runtime.lists import plain_name
from vidtok_runtime.machine import free_memory
from vidtok_runtime.places import size_of
from vidtok_runtime.remote import Place, RemotePath
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import TokenInfo
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Opening

_OF_THE_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


@dataclass(frozen=True)
class EncodeRecipe:
    """How clips become tokens: makes the tokenizer of a worker, and the keywords of `encode_file`.

    Latents that are drawn get a seed for each clip, made of that in `form` and the clip's name: clips of one data set
    do not share their noise.
    available: bytes that calls of a worker stay within by being shorter, None where that is not known.
    """

    tokenizer: Callable[..., Tokenizer]
    encode: Mapping[str, Any]
    available: int | None = None

    def shared(self, workers: int, aside: int = 0) -> EncodeRecipe:
        """For so many workers on this machine: each gets its part of the memory that is free now, less that aside.

        At least half of it goes to the workers.
        """
        free = free_memory()
        return self if free is None else replace(self, available=max(free - aside, free // 2) // workers)

    def on(self, device_id: int) -> EncodeRecipe:
        """The same on a device of this number."""
        return replace(self, tokenizer=partial(self.tokenizer, device_id=device_id))


class Job(NamedTuple):
    """A clip of this name, from `url` (see `Piece.url`) or a part of it into the file `target`.

    over: it is finished or has failed; it only keeps its place in a batch.
    """

    clip: str
    url: str
    target: Place
    part: ClipPart = WHOLE
    over: bool = False

    @property
    def source(self) -> str | RemotePath:
        """What a VideoReader takes; https://, too, by ranges, and a member of a tar file."""
        remote = RemotePath.parse(self.url)
        return remote if "://" in remote.url and (remote.scheme != "file" or remote.size is not None) else self.url

    def asked(self, recipe: EncodeRecipe) -> tuple[Selection, Opening]:
        """What is read of this clip, and how it is opened: its own part, else what the recipe says for all."""
        selection, opening = (recipe.encode.get(name) for name in ("selection", "opening"))
        return self.part.selection(selection or Selection()), self.part.opening(opening or Opening())


Batch = tuple[Job, ...]  # what is read at the same time; of these, clips of one size and length share calls


def left_of(batch: Batch) -> dict[str, Job]:
    """Jobs that are to be done, by the names of their clips."""
    return {job.clip: job for job in batch if not job.over}


class Outcome(NamedTuple):
    """What became of a clip: facts about its file, or why there is none. fatal: no other clip will do better."""

    clip: str
    facts: dict[str, Any] | None = None
    reason: str = ""
    fatal: bool = False


def failure(job: Job, error: Exception) -> Outcome:
    """What becomes of a clip with an error: of this clip, or of all that would be written."""
    if isinstance(error, OutputError):
        fatal = getattr(error.__cause__, "errno", None) not in _OF_THE_NAME
        return Outcome(job.clip, None, plain_name(str(error)), fatal)
    reason = str(error) if isinstance(error, VidtokError) else f"{type(error).__name__}: {error}"
    return Outcome(job.clip, None, reason.replace(job.url, job.clip))


def done(job: Job, info: TokenInfo) -> Outcome:
    """The outcome of a clip whose file is there."""
    facts = {
        "size": size_of(job.target),
        "sha256": sha256_of(job.target),
        "frames": info.num_frames,
        "height": info.height,
        "width": info.width,
        "fps": None if info.fps is None else str(info.fps),
    }
    return Outcome(job.clip, facts)


def form_of(clip: str, form: LatentForm | None) -> LatentForm | None:
    """The form of a clip's latents: with a seed of its own, the first four bytes of the SHA-256 of seed and name."""
    if form is None or form.sample is None:
        return form
    digest = hashlib.sha256(f"{form.sample} {clip}".encode("utf-8", "surrogateescape")).digest()
    return replace(form, sample=int.from_bytes(digest[:4], "big"))
