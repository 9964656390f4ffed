"""Streams that start anew at every group of frames and latents, so that each group decodes on its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import as_array
from vidtok_runtime.errors import InputError
from vidtok_runtime.streaming.stream import DecoderStream, EncoderStream
from vidtok_runtime.streaming.timing import Timing

Array = NDArray[Any]


class _Groups:
    """Cuts what is pushed at the ends of groups of `length` and runs each group through a stream of its own."""

    def __init__(self, length: int | None) -> None:
        self._stream = self._begin()
        self._length = self._room = length or sys.maxsize
        self._shape: tuple[int, ...] | None = None
        self._finished = False

    def _begin(self) -> EncoderStream | DecoderStream:
        """The stream of the next group."""
        raise NotImplementedError

    def _push(self, items: Array) -> Array:
        if self._finished:
            raise InputError("this stream is finished; ask the tokenizer for a new one")
        if len(items):
            self._shape = self._shape or items.shape[1:]
            if items.shape[1:] != self._shape:
                raise InputError(f"one stream is all {list(self._shape)}, got {list(items.shape[1:])}")
        out = []
        while len(items):
            if self._room == 0:
                self._stream, self._room = self._begin(), self._length
            piece, items = items[: self._room], items[self._room :]
            self._room -= len(piece)
            out.append(self._stream.push(piece))
            if self._room == 0:
                out.append(self._stream.finish())
        if out:
            return np.concatenate(out)
        # Nothing, in the shape of what comes.
        return self._stream.push(items) if self._room else self._stream.finish()

    def _finish(self) -> Array:
        self._finished = True
        return self._stream.finish()


class EncoderGroups(_Groups):
    """As EncoderStream, but the state starts anew every `timing.group_frames` frames.

    Each group is a clip of its own: its first frame is repeated in front of it.
    """

    def __init__(self, start: Callable[[], EncoderStream], timing: Timing) -> None:
        self._start = start
        super().__init__(timing.group_frames)
        self.num_frames = 0

    def _begin(self) -> EncoderStream:
        return self._start()

    def push(self, frames: Any) -> Array:
        """As `EncoderStream.push`. Raises InputError."""
        frames = as_array(frames, "frames")
        out = self._push(frames)
        self.num_frames += len(frames)
        return out

    def finish(self) -> Array:
        """Repeat the last frame up to a whole latent; returns what is left, the second time nothing."""
        return self._finish()


class DecoderGroups(_Groups):
    """As DecoderStream for what EncoderGroups made: `start(n)` gives the stream of a group of n frames.

    `skip`: frames to throw away at the start, before the `num_frames` that count.
    """

    def __init__(
        self,
        start: Callable[[int | None], DecoderStream],
        timing: Timing,
        num_frames: int | None = None,
        skip: int = 0,
    ) -> None:
        self._most = timing.group_frames or sys.maxsize
        self._left = None if num_frames is None else skip + num_frames
        self._skip = skip
        self._start = start
        super().__init__(timing.group)

    def push(self, data: Any) -> Array:
        """As `DecoderStream.push`. Raises InputError."""
        return self._after_skip(self._push(as_array(data, "latents")))

    def finish(self) -> Array:
        """End the stream and return what waited; raises InputError when fewer frames came out than were promised."""
        out = self._after_skip(self._finish())
        if self._left:
            raise InputError(f"the tokens end {self._left} frames too early; the stream is incomplete")
        return out

    def _begin(self) -> DecoderStream:
        if self._left is None:
            return self._start(None)  # all that its latents hold
        count = min(self._most, self._left)
        self._left -= count
        return self._start(count)

    def _after_skip(self, frames: Array) -> Array:
        skipped = min(self._skip, len(frames))
        self._skip -= skipped
        return frames[skipped:]
