"""What is done to files alike, whether they are on this machine or in a store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

from vidtok_runtime.files import is_file
from vidtok_runtime.remote import Place, RemotePath


def size_of(path: Place) -> int:
    """Bytes of a file; raises OSError."""
    return (path.length() or 0) if isinstance(path, RemotePath) else path.stat().st_size


def read_range(path: Place, start: int, stop: int) -> bytes:
    """Bytes of a file, fewer where it ends earlier; raises OSError."""
    if isinstance(path, RemotePath):
        return path.read_range(start, stop)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def sizes_at(places: Collection[Place], folder: Place) -> dict[Place, int | None]:
    """Bytes of the files at these places below a folder, None for what is no file; what is not there is left out.

    Of a store this is one listing, however many places there are. Raises OSError.
    """
    if isinstance(folder, RemotePath):
        listed = folder.files() if places else {}
        return {place: listed[place] for place in places if isinstance(place, RemotePath) and place in listed}
    there = (place for place in places if isinstance(place, Path) and os.path.lexists(place))
    return {place: size_of(place) if is_file(place) else None for place in there}


def make_folder(folder: Place) -> None:
    """Make a folder and those above it; a store has none. Raises OSError."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def remove(file: Place, top: Place) -> None:
    """Remove a file, if it is there, and the folders below `top` that are empty then; raises OSError."""
    file.unlink(missing_ok=True)
    for folder in file.parents if isinstance(file, Path) else ():
        if folder == top:
            break
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
