"""Frames of a source as they arrive: read by a thread into a queue of bounded length."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, Full, Queue

from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.source import Frame

_PATIENCE = 0.1  # seconds between two looks at whether to stop


class Arrivals:
    """Opens a source and reads it in a thread, `room` frames ahead at most.

    When the queue is full, a source that waits (a file, a pipe) is kept waiting; of a live one the frames that
    arrive meanwhile are dropped and counted. The thread lets the caller answer signals while a read blocks.
    """

    def __init__(self, open_reader: Callable[[], VideoReader], room: int) -> None:
        self._queue: Queue[VideoReader | Frame | Exception | None] = Queue(room)
        self._stopped = threading.Event()
        self._reader: VideoReader | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._fill, args=(open_reader,), daemon=True)
        self._thread.start()

    def get(self, seconds: float) -> VideoReader | Frame | None:
        """First the open reader, then its frames, then None; raises queue.Empty, and whatever reading raised."""
        item = self._queue.get(timeout=seconds)
        if isinstance(item, Exception):
            raise item
        return item

    def _fill(self, open_reader: Callable[[], VideoReader]) -> None:
        try:
            reader = self._reader = open_reader()
            self._put(reader)
            for frame in reader:
                if self._stopped.is_set():
                    return
                if reader.live and self._queue.full():
                    self.dropped += 1
                else:
                    self._put(frame)
            self._put(None)
        except Exception as error:  # whatever it is, the thread that waits must hear of it
            self._put(error)

    def _put(self, item: VideoReader | Frame | Exception | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE)
            except Full:
                continue
            return

    def waiting(self) -> list[Frame]:
        """Frames that have arrived and were not taken; stops reading."""
        self._stopped.set()
        frames: list[Frame] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return frames
            if isinstance(item, Frame):
                frames.append(item)

    def close(self) -> None:
        """Stop reading; a read that blocks is left behind, since a source must not be closed under it."""
        self._stopped.set()
        self._thread.join(10 * _PATIENCE)
        if self._reader is not None and not self._thread.is_alive():
            self._reader.close()
