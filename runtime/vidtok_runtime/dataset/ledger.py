"""What is known to be finished: append-only JSON lines that survive a kill at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidtok_runtime.checked_json import parse_json, shown
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import is_below
from vidtok_runtime.locks import lock

Record = dict[str, Any]

# What a record of a kind holds, beside the kind itself.
_HOLDS: dict[str, dict[str, type]] = {
    "settings": {},
    "planned": {"file": str},
    "done": {"file": str, "sha256": str, "size": int, "frames": int, "height": int, "width": int},
    "failed": {"tries": int, "reason": str},
    "packed": {"clips": list, "sha256": str, "size": int},
}


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
        self._settled = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Without a buffer nothing is left that closing would try to write again.
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{folder} cannot hold a ledger: {error.strerror}") from error
        try:
            if not lock(self._file.fileno(), self.path):
                raise OutputError(f"{self.path} is in use by another run; wait for it, or give every run its --shard")
            self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> None:
        for path in sorted(self.path.parent.glob("ledger*.jsonl")):
            try:
                content = path.read_bytes()
                if path == self.path:
                    self._file.truncate(content.rfind(b"\n") + 1)
            except OSError as error:
                raise OutputError(f"{path} cannot be read: {error.strerror}") from error
            self._take(path, content)
        if not self._settled:
            self.append({"settings": self._settings})

    def _take(self, path: Path, content: bytes) -> None:
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                record = _checked(parse_json(line))
            except ValueError as error:
                raise OutputError(
                    f"{path} is damaged in line {number}: {error}; remove the line, and its clip is looked at again"
                ) from error
            self._apply(record)
            self._settled |= path == self.path and "settings" in record

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
        else:
            self.packed[key] = record

    def append(self, *records: Record) -> None:
        """Write records and make them durable; raises OutputError."""
        content = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        try:
            while content:  # a disk that is nearly full takes a part
                content = content[self._file.write(content) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from error
        for record in records:
            self._apply(record)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


def _checked(record: object) -> Record:
    """A record that has what its kind needs; raises ValueError."""
    kind = next(iter(record), None) if isinstance(record, dict) else None
    if not isinstance(record, dict) or kind not in _HOLDS:
        raise ValueError(f"{shown(record)} is no record")
    if type(record[kind]) is not (dict if kind == "settings" else str):
        raise ValueError(f"{kind} is {shown(record[kind])}")
    for name, wanted in _HOLDS[kind].items():
        value: Any = record.get(name)
        if type(value) is not wanted or (type(value) is int and not 0 <= value < 2**62):
            raise ValueError(f"{name} of {kind} is {shown(value)}")
    if kind == "packed" and not all(type(clip) is str for clip in record["clips"]):
        raise ValueError("clips of packed are no names")
    if type(record.get("fps", "")) not in (str, type(None)):
        raise ValueError(f"fps is {shown(record['fps'])}")
    file = record[kind] if kind == "packed" else record.get("file", "x")
    if not is_below(file):
        raise ValueError(f"{shown(file)} is no file of the data set")
    return record
