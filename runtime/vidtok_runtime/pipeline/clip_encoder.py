"""Frames of one clip into a token file, as they come."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from os import PathLike
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.remote import RemotePath
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import TokenInfo, TokenWriter
from vidtok_runtime.video.display import Display
from vidtok_runtime.video.reader import VideoReader


class ClipFacts(NamedTuple):
    """What a token file says of its clip, known when all of it is read; last_duration: in units of the time base."""

    fps: Fraction
    time_base: Fraction
    display: Display
    resampling: str | None
    last_duration: int | None

    @classmethod
    def of(cls, reader: VideoReader, last_duration: int | None) -> ClipFacts:
        """Those of a reader that has come to its end."""
        return cls(reader.fps, reader.time_base, reader.display, reader.resampling, last_duration)


class ClipFile:
    """The token file of a clip, which appears when all of it is there.

    gop, form: with which its latents are made, as `Tokenizer.encode` takes them. Raises InputError, OutputError.
    """

    def __init__(
        self,
        tok: Tokenizer,
        out: str | PathLike[str] | RemotePath,
        *,
        half: bool = False,
        gop: int | None = None,
        form: LatentForm | None = None,
        force: bool = False,
    ) -> None:
        self._tok, self._gop = tok, gop
        self._form = form or LatentForm()
        self._writer = TokenWriter(out, tok.stream.codebook_size, half=half, force=force)
        self._pts = array("q")  # the one thing that grows: eight bytes a frame

    def add_times(self, pts: Sequence[int]) -> None:
        """The times of the frames that come next."""
        self._pts.extend(pts)

    def append(self, data: NDArray[Any]) -> None:
        """What a stream of this form gives next, `[t, C, h, w]` or `[t, h, w]`."""
        self._writer.append(*self._form.parted(data))

    def close(self, height: int, width: int, facts: ClipFacts) -> TokenInfo:
        """Give the file its name; frames had this size in pixels."""
        info = self._tok.describe(len(self._pts), height, width, facts.fps, facts.time_base, self._gop, self._form)
        info = replace(info, display=facts.display, resampling=facts.resampling).lasting(facts.last_duration)
        self._writer.close(info, np.frombuffer(self._pts, np.int64))
        return info

    def discard(self) -> None:
        """Remove what was written of a file that is not finished."""
        self._writer.discard()


class ClipEncoder:
    """Tokenizes frames in calls of `step` frames, however they come, into a ClipFile, whose options it takes."""

    def __init__(
        self,
        tok: Tokenizer,
        out: str | PathLike[str] | RemotePath,
        height: int,
        width: int,
        *,
        half: bool = False,
        gop: int | None = None,
        form: LatentForm | None = None,
        force: bool = False,
    ) -> None:
        self._size = height, width
        self.step = tok.plan("encoder", height, width).chunk * tok.stream.time_factor
        self._stream = tok.encoder(gop, **vars(form or LatentForm()))
        self._file = ClipFile(tok, out, half=half, gop=gop, form=form, force=force)
        self._waiting = np.zeros((0, height, width, 3), np.uint8)

    def push(self, pixels: NDArray[np.uint8], pts: Sequence[int]) -> None:
        """Take frames `n H W 3`, whose times are `pts`."""
        self._file.add_times(pts)
        if len(self._waiting):
            pixels = np.concatenate([self._waiting, pixels])
        whole = len(pixels) - len(pixels) % self.step
        for start in range(0, whole, self.step):
            self._file.append(self._stream.push(pixels[start : start + self.step]))
        self._waiting = pixels[whole:]

    def finish(self, facts: ClipFacts) -> TokenInfo:
        """Encode what waits, and give the file its name."""
        if len(self._waiting):
            self._file.append(self._stream.push(self._waiting))
        self._file.append(self._stream.finish())
        return self._file.close(*self._size, facts)

    def __enter__(self) -> ClipEncoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove what was written of a file that is not finished."""
        self._file.discard()
