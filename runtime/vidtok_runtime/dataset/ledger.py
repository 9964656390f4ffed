"""What is known to be finished: append-only JSON lines that survive a kill at any moment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidtok_runtime.errors import OutputError

Record = dict[str, Any]


class Ledger:
    """The ledger of one run, held by one process at a time, and what the ledgers of other shards say.

    One JSON object a line, the later one counts: `settings` first, then `planned` (a clip and its file, before any
    work), `done` (a clip with its file's size and SHA-256), `failed` (a clip with tries and reason), `packed` (a tar
    of tokens). A last line without an end is what a kill left behind and is dropped. Raises OutputError.
    """

    def __init__(self, folder: Path, tag: str, settings: Mapping[str, Any]) -> None:
        self.planned: dict[str, str] = {}
        self.done: dict[str, Record] = {}
        self.failed: dict[str, Record] = {}
        self.packed: dict[str, Record] = {}
        self._settings = json.loads(json.dumps(settings))
        self.path = folder / f"ledger{tag}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise OutputError(f"{folder} cannot hold a ledger: {error.strerror}") from error
        try:
            _lock(self._file.fileno(), self.path)
            self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        self._file.truncate(content.rfind(b"\n") + 1)
        for path in sorted(self.path.parent.glob("ledger*.jsonl")):
            self._take(path, content if path == self.path else path.read_bytes())
        if b"\n" not in content:
            self.append({"settings": self._settings})

    def _take(self, path: Path, content: bytes) -> None:
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if isinstance(error, OutputError):
                    raise
                raise OutputError(
                    f"{path} is damaged in line {number}; remove the line, and its clip is looked at again"
                ) from error

    def _apply(self, record: Record) -> None:
        kind = next(iter(record))
        key = record[kind]
        if kind == "settings":
            for name in sorted(key.keys() | self._settings.keys()):
                if key.get(name) != self._settings.get(name):
                    raise OutputError(
                        f"{self.path.parent} was begun with {name} {key.get(name)}, not {self._settings.get(name)}; "
                        "give what it was begun with, or another folder"
                    )
        elif kind == "planned":
            self.planned[key] = record["file"]
        elif kind == "done":
            self.done[key] = record
            self.failed.pop(key, None)
        elif kind == "failed":
            self.failed[key] = record
        elif kind == "packed":
            self.packed[key] = record
        else:
            raise ValueError(kind)

    def append(self, *records: Record) -> None:
        """Write records and make them durable; raises OutputError."""
        try:
            self._file.write(b"".join(json.dumps(record).encode() + b"\n" for record in records))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error
        for record in records:
            self._apply(record)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


def _lock(descriptor: int, path: Path) -> None:
    """Refuse a second run; the system lets go of the lock when the process ends, however it ends."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"{path} is in use by another run; wait for it, or give every run its --shard") from error
