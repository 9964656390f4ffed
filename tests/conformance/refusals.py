"""The cases of refusals.json as tests read them: files of the kit with edits, and whether a reader takes the result."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import KIT

from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.bundle.onnx_file import check_onnx_file
from vidtok_runtime.errors import VidtokError
from vidtok_runtime.tokens.tokens import Tokens

REFUSALS = KIT / "refusals.json"


@dataclass(frozen=True)
class Refusal:
    """A file of the kit, what is changed in it, and the verdict: `accept` or `refuse`."""

    name: str
    file: str
    part: str
    edits: list[dict[str, Any]]
    verdict: str
    why: str

    def content(self) -> bytes:
        """The file after all edits."""
        content, data = (KIT / self.file).read_bytes(), b""
        if self.part == "header":
            (room,) = struct.unpack("<Q", content[:8])
            content, data = content[8 : 8 + room], content[8 + room :]
        for edit in self.edits:
            content = edited(content, edit)
        return struct.pack("<Q", len(content)) + content + data if self.part == "header" else content

    def refused(self, folder: Path) -> str | None:
        """What this package's reader says against the file, which is written into `folder`; None: it takes it."""
        path = folder / self.file
        if not path.parent.exists():
            shutil.copytree((KIT / self.file).parent, path.parent)
        path.write_bytes(self.content())
        try:
            if path.suffix == ".json":
                read_manifest(path.parent)
            elif path.suffix == ".onnx":
                check_onnx_file(path)
            else:
                Tokens.load(path)
        except VidtokError as error:
            return str(error)
        return None


def edited(content: bytes, edit: dict[str, Any]) -> bytes:
    """Content with one edit applied; raises ValueError when it does not fit."""
    new = bytes.fromhex(edit["hex"]) if "hex" in edit else edit["with"].encode()
    at, size = edit.get("at", len(content)), edit.get("delete", 0)
    if "replace" in edit:
        at, size = content.index(edit["replace"].encode()), len(edit["replace"].encode())
    return content[:at] + new * edit.get("times", 1) + content[at + size :]


def read_refusals(path: Path = REFUSALS) -> list[Refusal]:
    """All cases of a file."""
    content = json.loads(path.read_text())
    assert (content["format"], content["version"]) == ("vidtok-refusals", 1)
    return [Refusal(**{"part": "file", **case}) for case in content["cases"]]
