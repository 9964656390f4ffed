"""Streams that start anew at every group of frames and latents, so that each group decodes on its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import as_array
from vidtok_runtime.bundle.stream_spec import Groups
from vidtok_runtime.errors import InputError
from vidtok_runtime.streaming.posterior import Posterior
from vidtok_runtime.streaming.stream import DecoderStream, EncoderStream, Stream

Array = NDArray[Any]


S = TypeVar("S", EncoderStream, DecoderStream)


class _Groups(Stream, Generic[S]):
    """Cuts what is pushed into groups of `length`, with `shared` items in common, and runs each as a stream.

    Of what each but the first gives, `surplus` items are thrown away at the start. A group begins with the first item
    that the one before does not have. length: None for one group.
    """

    def __init__(self, length: int | None, shared: int, surplus: int) -> None:
        super().__init__()
        self._length, self._shared, self._surplus = length or sys.maxsize, shared, surplus
        self._stream: S = self._begin()
        self._room = self._length
        self._to_drop = 0
        self._tail: Array | None = None  # the last items, which the next group has, too

    def _begin(self) -> S:
        """The stream of the next group."""
        raise NotImplementedError

    def _push(self, items: Array) -> Array:
        self._check_open()
        self._stream.check(items)
        with self._working():
            return self._taken(items)

    def _taken(self, items: Array) -> Array:
        out: list[Array] = []
        while len(items):
            if self._room == 0:
                out += self._next()
            piece, items = items[: self._room], items[self._room :]
            self._room -= len(piece)
            out.append(self._kept(self._stream.take(piece)))
            if self._shared:
                tail = piece[-self._shared :]
                tail = tail if self._tail is None else np.concatenate([self._tail, tail])
                self._tail = tail[-self._shared :].copy()
            if self._room == 0:
                out.append(self._kept(self._stream.finish()))
        if out:
            return out[0] if len(out) == 1 else np.concatenate(out)
        # Nothing, in the shape of what comes.
        return self._stream.take(items) if self._room else self._stream.finish()

    def _next(self) -> list[Array]:
        """Begin the next group with what it shares with the one before."""
        self._stream, self._room, self._to_drop = self._begin(), self._length - self._shared, self._surplus
        return [] if self._tail is None else [self._kept(self._stream.take(self._tail))]

    def _kept(self, given: Array) -> Array:
        drop = min(self._to_drop, len(given))
        self._to_drop -= drop
        return given[drop:]


class EncoderGroups(_Groups[EncoderStream]):
    """As EncoderStream, but in groups, each of which is a clip of its own; latents leave in the form of `posterior`."""

    def __init__(self, start: Callable[[], EncoderStream], groups: Groups | None, posterior: Posterior) -> None:
        self._start = start
        self._posterior = posterior
        super().__init__(*((groups.frames, groups.shared_frames, groups.shared_latents) if groups else (None, 0, 0)))
        self.num_frames = 0

    def _begin(self) -> EncoderStream:
        return self._start()

    def push(self, frames: Any) -> Array:
        """As `EncoderStream.push`. Raises InputError."""
        frames = as_array(frames, "frames")
        out = self._posterior.shaped(self._push(frames))
        self.num_frames += len(frames)
        return out

    def finish(self) -> Array:
        """Repeat the last frame up to a whole latent; returns what is left, the second time nothing."""
        with self._working():
            self._finished = True
            return self._posterior.shaped(self._kept(self._stream.finish()))


class DecoderGroups(_Groups[DecoderStream]):
    """As DecoderStream for what EncoderGroups made: `start(n)` gives the stream of a group of n frames.

    `skip`: frames to throw away at the start, before the `num_frames` that count.
    """

    def __init__(
        self,
        start: Callable[[int | None], DecoderStream],
        groups: Groups | None,
        num_frames: int | None = None,
        skip: int = 0,
    ) -> None:
        self._longest = groups.frames if groups else sys.maxsize
        self._left = None if num_frames is None else skip + num_frames
        self._again = 0  # frames of the next group that the one before has given
        self._skip = skip
        self._start = start
        self._given = 0
        super().__init__(*((groups.latents, groups.shared_latents, groups.shared_frames) if groups else (None, 0, 0)))

    def push(self, data: Any) -> Array:
        """As `DecoderStream.push`. Raises InputError."""
        return self._after_skip(self._push(as_array(data, "latents")))

    def finish(self, num_frames: int | None = None) -> Array:
        """End the stream and return what waited; raises InputError when fewer frames came out than were promised.

        num_frames: of the clip, where they were not known at the start.
        """
        rest = None
        if num_frames is not None:
            rest = num_frames - self._given + (self._surplus if self._given else 0)
        with self._working():
            self._finished = True
            out = self._after_skip(self._kept(self._stream.finish(rest)))
        if self._left:
            raise InputError(f"the tokens end {self._left} frames too early; the stream is incomplete")
        return out

    def _begin(self) -> DecoderStream:
        if self._left is None:
            return self._start(None)  # all that its latents hold
        count = min(self._longest, self._again + self._left)
        self._left -= count - self._again
        self._again = self._surplus
        return self._start(count)

    def _after_skip(self, frames: Array) -> Array:
        self._given += len(frames)
        skipped = min(self._skip, len(frames))
        self._skip -= skipped
        return frames[skipped:]
