"""Outputs that appear under their name only when complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from vidtok_runtime.errors import OutputError


def is_there(path: str | PathLike[str], kind: Callable[[Path], bool] = Path.exists) -> bool:
    """Whether a path exists, or is what `kind` asks (`Path.is_dir`); False for a name that no file can have."""
    try:
        return kind(Path(path))
    except (OSError, ValueError):
        return False


def files_in(place: Path) -> list[Path]:
    """All files below a folder in order, or the one file."""
    return [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())


class PartFile:
    """A target written beside itself under a name ending in `.part` and renamed when complete.

    Raises OutputError when the target exists (without `force`) or cannot be written.
    """

    def __init__(self, path: str | PathLike[str], *, force: bool = False) -> None:
        self.path = Path(path)
        self.force = force
        if "\0" in str(path):  # FFmpeg would write to what stands before it
            raise OutputError(f"{str(path)!r} cannot be written: a name holds no NUL byte")
        try:
            self.path.stat()
            there = True
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError as error:  # a name that is too long, a link to itself
            raise self.failure(error) from error
        if there and not force:
            raise OutputError(f"{self.path} exists already; give --force to replace it")
        if is_there(self.path, Path.is_dir):
            raise OutputError(f"{self.path} is a folder; name a file")
        if not is_there(self.path.parent, Path.is_dir):
            raise OutputError(f"the folder {self.path.parent} does not exist; create it first")
        # Process id and suffix kept: muxers look at the suffix, and two runs must not share a part.
        self.part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Create the part for writing."""
        try:
            self._file = self.part.open("wb")
        except OSError as error:
            raise self.failure(error) from error

    def write(self, content: bytes, at: int | None = None) -> None:
        """Write to the open part, where the last write ended or at a byte offset."""
        assert self._file is not None
        try:
            if at is not None:
                self._file.seek(at)
            self._file.write(content)
        except OSError as error:
            self.discard()
            raise self.failure(error) from error

    def write_whole(self, content: bytes) -> None:
        """Make the file of these bytes; raises OutputError."""
        self.open()
        self.write(content)
        self.commit()

    def commit(self) -> None:
        """Close the part, make it durable and give it the target's name."""
        try:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None
            os.replace(self.part, self.path)
        except OSError as error:
            self.discard()
            raise self.failure(error) from error

    def discard(self) -> None:
        """Remove the part, if it is still there."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk fails again while flushing; the part goes anyway
                self._file.close()
            self._file = None
        with contextlib.suppress(OSError):  # not there, or a name that no file can have
            self.part.unlink()

    def failure(self, error: Exception) -> OutputError:
        """The error to raise when writing fails."""
        return OutputError(f"{self.path} cannot be written: {getattr(error, 'strerror', None) or error}")
