"""Whether a Matroska or WebM file has lost its end: its header says how long it is, FFmpeg does not tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_EBML = 0x1A45DFA3
_SEGMENT = 0x18538067


def _number(file: BinaryIO, *, marked: bool) -> int | None:
    """A variable-length number of EBML (RFC 8794, section 4), with its length marker for ids; None for unknown."""
    first = file.read(1)
    if not first or not first[0]:
        raise ValueError("no EBML number")
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    if marked:
        return value
    value &= (1 << 7 * length) - 1
    return None if value == (1 << 7 * length) - 1 else value


def missing_bytes(path: str) -> int:
    """Bytes that the file should have and has not; 0 for other files, and for those that do not tell."""
    try:
        with Path(path).open("rb") as file:
            if _number(file, marked=True) != _EBML:
                return 0
            file.seek(_number(file, marked=False) or 0, os.SEEK_CUR)
            if _number(file, marked=True) != _SEGMENT:
                return 0
            size = _number(file, marked=False)
            return 0 if size is None else max(0, file.tell() + size - os.fstat(file.fileno()).st_size)
    except (OSError, ValueError, OverflowError):
        return 0
