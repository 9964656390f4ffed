"""Where a ledger's lines are kept: a file that grows, or in a store, where none can, a row of small objects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vidtok_runtime.errors import OutputError
from vidtok_runtime.locks import lock
from vidtok_runtime.remote import Place, RemotePath, read_all

_FULL = 1 << 15  # bytes of an object, after which the next is begun


class FileJournal:
    """`ledger{tag}.jsonl` of a folder, held by one process at a time. Raises OutputError."""

    def __init__(self, folder: Path, tag: str) -> None:
        self.path = folder / f"ledger{tag}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Without a buffer nothing is left that closing would try to write again.
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{folder} cannot hold a ledger: {error.strerror}") from error
        if not lock(self._file.fileno(), self.path):
            self.close()
            raise _in_use(self.path)

    def contents(self) -> Iterator[tuple[Place, bool, bytes]]:
        """Every ledger of the folder: its path, whether it is this one, its lines; half a line of this one goes."""
        for path in sorted(self.path.parent.glob("ledger*.jsonl")):
            try:
                content = path.read_bytes()
                if path == self.path:
                    self._file.truncate(content.rfind(b"\n") + 1)
            except OSError as error:
                raise OutputError(f"{path} cannot be read: {error.strerror}") from error
            yield path, path == self.path, content

    def append(self, content: bytes) -> None:
        """Write whole lines and make them durable."""
        try:
            while content:  # a disk that is nearly full takes a part
                content = content[self._file.write(content) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


class ObjectJournal:
    """`ledger{tag}.000000.jsonl` and so on below a URL, each written anew with every line until it is full.

    A run begins an object of its own behind all others, and looks before every line whether one has begun behind it:
    then that run goes on and this one ends, so that a killed run leaves no lock. Raises OutputError.
    """

    def __init__(self, folder: RemotePath, tag: str) -> None:
        self._folder, self._stem = folder, f"ledger{tag}."
        self._lines = b""
        try:
            folder.check_target()
            self._found = [p for p in folder.files() if p.name.startswith("ledger") and p.suffix == ".jsonl"]
        except OSError as error:
            raise OutputError(f"{folder} cannot hold a ledger: {error.strerror}") from error
        self._found = [path for path in self._found if path.parent == folder]
        # Of two lines about a clip the later counts, and what others wrote, as a folder's ledger, came before.
        self._found.sort(key=lambda path: (self._number_of(path) is not None, path))
        numbers = (self._number_of(path) for path in self._found)
        self._number = max((number for number in numbers if number is not None), default=-1) + 1

    def _number_of(self, path: RemotePath) -> int | None:
        """Inverse of `_object`; None for what is of another ledger."""
        found = re.fullmatch(re.escape(self._stem) + r"([0-9]+)\.jsonl", path.name)
        return int(found[1]) if found else None

    @property
    def path(self) -> RemotePath:
        """The object that lines go to."""
        return self._object(self._number)

    def _object(self, number: int) -> RemotePath:
        return self._folder / f"{self._stem}{number:06d}.jsonl"

    def contents(self) -> Iterator[tuple[Place, bool, bytes]]:
        """Every object of every ledger: its path, whether it is of this one, its lines."""
        try:
            contents = read_all(self._found)
        except OSError as error:
            raise OutputError(f"the ledger in {self._folder} cannot be read: {error.strerror}") from error
        for path, content in zip(self._found, contents, strict=True):
            yield path, self._number_of(path) is not None, content

    def append(self, content: bytes) -> None:
        """Write whole lines."""
        if len(self._lines) > _FULL:
            self._number, self._lines = self._number + 1, b""
        begun = bool(self._lines)
        self._lines += content
        try:
            if self._object(self._number + 1).is_file():
                raise FileExistsError
            self.path.write_bytes(self._lines, force=begun)
        except FileExistsError as error:
            raise _in_use(self._folder) from error
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Nothing stays open between two lines."""


def _in_use(place: Place) -> OutputError:
    return OutputError(f"{place} is in use by another run; wait for it, or give every run its --shard")
