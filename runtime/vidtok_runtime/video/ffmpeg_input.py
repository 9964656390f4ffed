"""What FFmpeg reads: a file, an address or a pipe that it opens itself, or a file of a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import av

from vidtok_runtime.remote import RemotePath, place_of


class FFmpegInput:
    """An open container. Raises av.FFmpegError and OSError.

    What a store gives as an error ends its file for FFmpeg, and is raised here before anything is made of that end:
    FFmpeg goes on asking after an error, and PyAV keeps a single one and prints all others.
    """

    def __init__(self, url: str | RemotePath, **values: Any) -> None:
        self._file = _StoreFile(url) if isinstance(url, RemotePath) else None
        try:
            self.container = av.open(self._file or url, "r", metadata_errors="replace", **values)
        finally:
            self._check()

    @classmethod
    def of_file(cls, name: str) -> FFmpegInput:
        """A file by its name or URL, never a pattern."""
        place = place_of(name)
        return cls(place if isinstance(place, RemotePath) else f"file:{place}")

    def packets(self, streams: Any, first: Iterator[Any] | None = None) -> Iterator[Any]:
        """The packets of streams; first: what is there already, and what then comes."""
        packets = first or self.container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            finally:
                self._check()
            if packet is None:
                return
            yield packet

    def seek(self, pts: int, stream: Any) -> None:
        try:
            self.container.seek(pts, stream=stream)
        finally:
            self._check()

    def close(self) -> None:
        self.container.close()

    def _check(self) -> None:
        if self._file is not None and self._file.error is not None:
            raise self._file.error


class _StoreFile:
    """An open file that ends at its first error."""

    def __init__(self, place: RemotePath) -> None:
        self._inner = place.open()
        self.seekable, self.tell = self._inner.seekable, self._inner.tell
        self.error: OSError | None = None

    def read(self, size: int) -> bytes:
        if self.error is None:
            try:
                return self._inner.read(size)
            except OSError as error:
                self.error = error
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self.error is None:
            try:
                return self._inner.seek(offset, whence)
            except OSError as error:
                self.error = error
        return -1
