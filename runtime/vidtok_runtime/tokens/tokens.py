"""A tokenized clip in memory, and its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.remote import RemotePath
from vidtok_runtime.tokens.info import TokenInfo
from vidtok_runtime.tokens.reader import TokenReader
from vidtok_runtime.tokens.writer import TokenWriter

Array = NDArray[Any]
__all__ = ["TokenInfo", "TokenReader", "TokenWriter", "Tokens"]


@dataclass(frozen=True)
class Tokens:
    """A tokenized clip: `data` is float32 `[t, C, h, w]` (KL) or int32 `[t, h, w]` (of a codebook).

    log_variance: of the posterior of these latents, float32 `[t, C, h, w]`, if it was asked for.
    """

    data: Array
    info: TokenInfo
    pts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    log_variance: Array | None = None

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return self.info.num_frames

    @property
    def height(self) -> int:
        """Pixels."""
        return self.info.height

    @property
    def width(self) -> int:
        """Pixels."""
        return self.info.width

    @property
    def fps(self) -> Fraction | None:
        """Frames a second, if known."""
        return self.info.fps

    def slice(self, start: int = 0, end: int | None = None) -> Tokens:
        """The tokens of frames `start..end` (end not included) and nothing more than decoding these needs.

        Without groups (`gop`, windows) the state comes from the first frame, so that all latents before stay, too; with
        them those from the start of the group that holds `start`. `Tokenizer.decode` gives exactly the frames asked
        for. Raises InputError, also for an end at which the last frames would decode otherwise than in the whole.
        """
        info, latents = self.info.part(start, end, len(self.data))
        if len(self.pts) and end is not None:
            info = info.lasting(self.info.durations(self.pts)[end - 1])
        variances = None if self.log_variance is None else self.log_variance[latents]
        return Tokens(self.data[latents], info, self.pts[start:end], variances)

    def save(self, path: str | PathLike[str] | RemotePath, *, force: bool = False) -> None:
        """Write a token file (float32 latents, or indices); raises OutputError."""
        with TokenWriter(path, self.info.codebook_size, force=force) as writer:
            writer.append(self.data, self.log_variance)
            pts = self.pts if len(self.pts) else np.arange(self.num_frames)
            writer.close(self.info, pts)

    @classmethod
    def load(cls, path: str | PathLike[str] | RemotePath) -> Tokens:
        """Read a whole token file and check its checksum; raises TokenFileError."""
        reader = TokenReader(path)
        reader.verify()
        return cls(reader.read(), reader.info, reader.pts(), reader.read_variance())
