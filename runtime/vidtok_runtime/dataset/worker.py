"""One clip to one token file, in whatever process the engine runs it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from vidtok_runtime.bundle.manifest import sha256_of
from vidtok_runtime.dataset.part import WHOLE, ClipPart
from vidtok_runtime.errors import MismatchError, OutputError, TokenFileError, VidtokError
from vidtok_runtime.files import is_file
from vidtok_runtime.lists import plain_name
from vidtok_runtime.machine import free_memory
from vidtok_runtime.places import make_folder, size_of
from vidtok_runtime.remote import Place, RemotePath
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import TokenInfo, TokenReader
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

    tokenizer: Callable[[], Tokenizer]
    encode: Mapping[str, Any]
    available: int | None = None

    def shared(self, workers: int) -> EncodeRecipe:
        """For so many workers on this machine: each gets its part of the memory that is free now."""
        free = free_memory()
        return self if free is None else replace(self, available=free // workers)


class Job(NamedTuple):
    """A clip of this name, from `url` (see `Piece.url`) or a part of it into the file `target`."""

    clip: str
    url: str
    target: Place
    part: ClipPart = WHOLE

    @property
    def source(self) -> str | RemotePath:
        """What a VideoReader takes; https://, too, by ranges."""
        remote = RemotePath.parse(self.url)
        return remote if "://" in remote.url and remote.scheme != "file" else self.url

    def keywords(self, encode: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `encode_file` for this clip, from those for all."""
        return {
            **encode,
            "form": form_of(self.clip, encode.get("form")),
            "selection": self.part.selection(encode.get("selection") or Selection()),
            "opening": self.part.opening(encode.get("opening") or Opening()),
        }


class Outcome(NamedTuple):
    """What became of a clip: facts about its file, or why there is none. fatal: no other clip will do better."""

    clip: str
    facts: dict[str, Any] | None = None
    reason: str = ""
    fatal: bool = False


class Worker:
    """One session and the clips that go through it, one after the other. Raises BundleError, ProviderError."""

    def __init__(self, recipe: EncodeRecipe) -> None:
        import cv2

        self._encode = dict(recipe.encode)
        self._tok = recipe.tokenizer()
        self._tok.available = recipe.available
        # Loads the graphs now: what is wrong with them is no clip's fault.
        self._tok.encoder(**vars(self._encode.get("form") or LatentForm()))
        cv2.setNumThreads(self._tok.options.threads or -1)

    def attempt(self, job: Job) -> Outcome:
        """Do a clip; errors become an outcome, so that one clip never stops the others."""
        try:
            return Outcome(job.clip, self._make(job))
        except OutputError as error:
            fatal = getattr(error.__cause__, "errno", None) not in _OF_THE_NAME
            return Outcome(job.clip, None, plain_name(str(error)), fatal)
        except VidtokError as error:
            return Outcome(job.clip, None, str(error).replace(job.url, job.clip))
        except Exception as error:  # of a library, about this clip: the others go on
            return Outcome(job.clip, None, f"{type(error).__name__}: {error}".replace(job.url, job.clip))

    def _make(self, job: Job) -> dict[str, Any]:
        from vidtok_runtime.pipeline.files import encode_file

        # Files get their names when they are complete: one that is there was made by a run that was killed
        # before it could say so.
        info = self._finished(job.target)
        if info is None:
            try:
                make_folder(job.target.parent)
            except OSError as error:
                raise OutputError(f"the folder {job.target.parent} cannot be made: {error.strerror}") from error
            encode = job.keywords(self._encode)
            info = encode_file(self._tok, job.source, job.target, force=True, quiet=True, **encode)
        return {
            "size": size_of(job.target),
            "sha256": sha256_of(job.target),
            "frames": info.num_frames,
            "height": info.height,
            "width": info.width,
            "fps": None if info.fps is None else str(info.fps),
        }

    def _finished(self, target: Place) -> TokenInfo | None:
        if not is_file(target):
            return None
        try:
            reader = TokenReader(target)
            reader.verify()
            reader.info.check_bundle(self._tok.manifest)
        except (TokenFileError, MismatchError):
            return None
        return reader.info


def form_of(clip: str, form: LatentForm | None) -> LatentForm | None:
    """The form of a clip's latents: with a seed of its own, the first four bytes of the SHA-256 of seed and name."""
    if form is None or form.sample is None:
        return form
    digest = hashlib.sha256(f"{form.sample} {clip}".encode("utf-8", "surrogateescape")).digest()
    return replace(form, sample=int.from_bytes(digest[:4], "big"))
