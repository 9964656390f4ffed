"""What is known to be finished: append-only JSON lines that survive a kill at any moment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vidtok_runtime.checked_json import parse_json, shown
from vidtok_runtime.dataset.journal import FileJournal, ObjectJournal
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import is_below
from vidtok_runtime.remote import Place, RemotePath

Record = dict[str, Any]

# What a record of a kind holds, beside the kind itself.
_HOLDS: dict[str, dict[str, type]] = {
    "settings": {},
    "planned": {"file": str},
    "done": {"file": str, "sha256": str, "size": int, "frames": int, "height": int, "width": int},
    "failed": {"tries": int, "reason": str},
    "cut": {"at": list},
    "packed": {"clips": list, "sha256": str, "size": int},
}
_TIME = re.compile(r"[0-9]{1,99}(/[1-9][0-9]{0,99})?")  # as a Fraction is written


class Ledger:
    """The ledger of one run, held by one process at a time, and what the ledgers of other shards say.

    One JSON object a line, the later one counts: `settings` first, then `planned` (a clip, or the index, and its file,
    before any work), `done` (a clip with its file's size and SHA-256), `failed` (a clip with tries and reason),
    `packed` (a tar of tokens), `cut` (when shots of a clip begin, in seconds). A last line without an end is what a
    kill left behind and is dropped. Raises OutputError.
    """

    def __init__(self, folder: Place, tag: str, settings: Mapping[str, Any]) -> None:
        self.planned: dict[str, str] = {}
        self.done: dict[str, Record] = {}
        self.failed: dict[str, Record] = {}
        self.cuts: dict[str, list[str]] = {}
        self.packed: dict[str, Record] = {}
        self._settings = json.loads(json.dumps(settings))
        self._folder = folder
        self._settled = False
        self._journal = ObjectJournal(folder, tag) if isinstance(folder, RemotePath) else FileJournal(folder, tag)
        try:
            for path, own, content in self._journal.contents():
                self._take(path, own, content)
            if not self._settled:
                self.append({"settings": self._settings})
        except BaseException:
            self.close()
            raise

    def _take(self, path: Place, own: bool, content: bytes) -> None:
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            try:
                record = _checked(parse_json(line))
            except ValueError as error:
                raise OutputError(
                    f"{path} is damaged in line {number}: {error}; remove the line, and its clip is looked at again"
                ) from error
            self._apply(record)
            self._settled |= own and "settings" in record

    def _apply(self, record: Record) -> None:
        kind = next(iter(record))
        key = record[kind]
        if kind == "settings":
            for name in sorted(key.keys() | self._settings.keys()):
                if key.get(name) != self._settings.get(name):
                    raise OutputError(
                        f"{self._folder} was begun with {name} {key.get(name)}, not {self._settings.get(name)}; "
                        "give what it was begun with, or another folder"
                    )
        elif kind == "planned":
            self.planned[key] = record["file"]
        elif kind == "done":
            self.done[key] = record
            self.failed.pop(key, None)
        elif kind == "failed":
            self.failed[key] = record
        elif kind == "cut":
            self.cuts[key] = record["at"]
            self.failed.pop(key, None)
        else:
            self.packed[key] = record

    def tries(self, clip: str) -> int:
        """How often a clip has failed."""
        return self.failed[clip]["tries"] if clip in self.failed else 0

    def append(self, *records: Record) -> None:
        """Write records and make them durable; raises OutputError."""
        self._journal.append(b"".join(json.dumps(record).encode() + b"\n" for record in records))
        for record in records:
            self._apply(record)

    def close(self) -> None:
        """Let others have it."""
        self._journal.close()


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
    if kind == "cut" and not all(type(time) is str and _TIME.fullmatch(time) for time in record["at"]):
        raise ValueError("at of cut are no times")
    if type(record.get("fps", "")) not in (str, type(None)):
        raise ValueError(f"fps is {shown(record['fps'])}")
    file = record[kind] if kind == "packed" else record.get("file", "x")
    if not is_below(file):
        raise ValueError(f"{shown(file)} is no file of the data set")
    return record
