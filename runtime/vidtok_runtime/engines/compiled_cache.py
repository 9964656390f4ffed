"""Compiled graphs kept on disk, so that the next process starts without compiling.

They lie in `$VIDTOK_CACHE`, else in the user's cache folder; an empty `$VIDTOK_CACHE` turns the cache off. A file
appears under its name only when complete and carries its own SHA-256, so a torn or altered one counts as absent. What
cannot be read or written is left out: a cache may be lost at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from vidtok_runtime.bundle.manifest import sha256_of
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import PartFile, is_file

# Compiled graphs hold the weights again; large ones would fill the disk, and compiling is a small part of their work.
_MAX_BYTES = 64 * 2**20
_DIGEST = hashlib.sha256().digest_size


def cache_file(graph: Sequence[Path], *parts: object) -> Path | None:
    """Where the compiled form of a graph, of one or more files, is kept; None: nowhere.

    parts: all that it depends on besides.
    """
    folder = _folder()
    if folder is None or sum(path.stat().st_size for path in graph) > _MAX_BYTES:
        return None
    key = hashlib.sha256("\n".join([*map(sha256_of, graph), *map(str, parts)]).encode()).hexdigest()
    return folder / f"{key[:32]}.blob"


def load(file: Path) -> bytes | None:
    """What was kept, if it is there and whole."""
    try:
        # A pipe would be waited for, and a device has no end.
        content = file.read_bytes() if is_file(file) else b""
    except OSError:
        return None
    blob = content[_DIGEST:]
    return blob if hashlib.sha256(blob).digest() == content[:_DIGEST] else None


def keep(file: Path, blob: bytes) -> None:
    """Put a compiled graph there, if that is possible."""
    with contextlib.suppress(OSError, OutputError):
        file.parent.mkdir(parents=True, exist_ok=True)
        PartFile(file, force=True).write_whole(hashlib.sha256(blob).digest() + blob)


def _folder() -> Path | None:
    asked = os.environ.get("VIDTOK_CACHE")
    if asked is not None:
        return Path(asked) if asked else None
    with contextlib.suppress(RuntimeError):  # no home
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidtok"
    return None
