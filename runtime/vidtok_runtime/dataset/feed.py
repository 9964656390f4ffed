"""Frames from one process to another: sent ahead, up to a bound."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import numpy as np

from vidtok_runtime.dataset.job import Job, left_of
from vidtok_runtime.dataset.reading import ClipFrames, ClipStart, Reading

ROOM = 1 << 25  # bytes that may wait in the process that reads, or one piece


def send(line: Connection, job: Job, piece: Reading) -> None:
    """Send a piece of a clip; pixels go as they are, without a copy."""
    if not isinstance(piece, ClipFrames):
        line.send((job, piece))
        return
    line.send((job, piece.pixels.shape, piece.pts))
    line.send_bytes(np.ascontiguousarray(piece.pixels).data.cast("B"))


def receive(line: Connection) -> tuple[Job, Reading]:
    """The next piece; raises EOFError where its sender has died."""
    job, *said = line.recv()
    if len(said) == 1:
        return job, cast(Reading, said[0])
    pixels = np.empty(said[0], np.uint8)
    line.recv_bytes_into(pixels.data.cast("B"))
    return job, ClipFrames(pixels, said[1])


def in_turn(feeds: Sequence[Connection], has_room: Callable[[ClipStart], bool]) -> Iterator[tuple[Job, Reading]]:
    """Pieces from several lines until all are at their ends.

    Clips that are begun go first: others begin only when those would have to be waited for, so that few states are
    held, and where there is room for theirs.
    """
    lines: list[Any] = list(feeds)
    begun: dict[Any, set[str]] = {}  # lines amid clips, the oldest first, and those clips that have not ended
    held: dict[Any, tuple[Job, ClipStart]] = {}  # what may not begin yet
    while lines:
        for line, (job, start) in list(held.items()):
            if not begun or has_room(start):
                del held[line]
                begun[line] = set(left_of(start.batch))
                yield job, start
        ready: list[Any] = wait([line for line in lines if line not in held])
        line = next((one for one in begun if one in ready), ready[0])
        try:
            job, piece = receive(line)
        except EOFError:
            lines.remove(line)
            begun.pop(line, None)
            continue
        if isinstance(piece, ClipStart):
            held[line] = job, piece
            continue
        yield job, piece
        if line in begun and not isinstance(piece, ClipFrames):
            begun[line].discard(job.clip)
            if not begun[line]:
                del begun[line]


class Ahead:
    """Sends pieces in a thread of its own, so that reading goes on while the other end is busy."""

    def __init__(self, line: Connection, room: int = ROOM) -> None:
        self._line, self._room = line, room
        self._waiting: deque[tuple[Job, Reading]] = deque()
        self._held = 0  # bytes
        self._changed = threading.Condition()
        threading.Thread(target=self._send, daemon=True).start()

    def put(self, job: Job, piece: Reading) -> None:
        """Have a piece sent; waits while those before it fill the room."""
        size = _size(piece)
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._room)
            self._waiting.append((job, piece))
            self._held += size
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all is sent."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                job, piece = self._waiting[0]
            try:
                send(self._line, job, piece)
            except OSError:  # nobody is there to read for
                os._exit(1)
            with self._changed:
                self._waiting.popleft()
                self._held -= _size(piece)
                self._changed.notify_all()


def _size(piece: Reading) -> int:
    return piece.pixels.nbytes if isinstance(piece, ClipFrames) else 0
