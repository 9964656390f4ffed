"""Whether a file has lost its end: most formats say how long they are, FFmpeg does not tell."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from vidtok_runtime.remote import place_of

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"sidx", b"meta", b"pnot", b"uuid"}
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # in a JPEG's coded picture: neither a byte ff nor a restart
_MAX_FLV = 1 << 16  # bytes in which an FLV says how long it is
_MAX_OGG_PAGE = 27 + 255 + 255 * 255
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa")  # the start of its name
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


class _CutError(Exception):
    """The file ends within a piece, or before one; in words."""

    def __init__(self, where: str = "it ends within a picture") -> None:
        super().__init__(where)


def missing_end(path: str) -> str | None:
    """What the file should have and has not, in words; an empty text for a whole file, None where it cannot be told."""
    try:
        with place_of(path).open("rb") as file:
            start = file.read(12)
            file.seek(0)
            for begins, look in _LOOKS:
                if begins(start):
                    missing = look(file)
                    if missing is None:
                        return None
                    return f"{missing} bytes are missing at its end" if missing > 0 else ""
            return None
    except _CutError as error:
        return str(error)
    except (OSError, ValueError, OverflowError, struct.error):
        return None


def _size(file: BinaryIO) -> int:
    at = file.tell()
    try:
        return file.seek(0, os.SEEK_END)
    finally:
        file.seek(at)


def _beyond(file: BinaryIO, end: int) -> int:
    return max(0, end - _size(file))


def _take(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise _CutError
    return content


def _skip(file: BinaryIO, count: int) -> None:
    if _beyond(file, file.seek(count, os.SEEK_CUR)):
        raise _CutError


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


def _matroska(file: BinaryIO) -> int | None:
    _number(file, marked=True)
    file.seek(_number(file, marked=False) or 0, os.SEEK_CUR)
    if _number(file, marked=True) != _SEGMENT:
        return None
    size = _number(file, marked=False)
    return None if size is None else _beyond(file, file.tell() + size)


def _boxes(file: BinaryIO) -> int | None:
    """MP4 and its kin: boxes one after the other (ISO/IEC 14496-12, section 4.2)."""
    at, size = 0, _size(file)
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 0:
            return None  # up to the end, wherever that is
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return None if at else 0  # what follows the last box is no box
        at += length
    return at - size


def _riff(file: BinaryIO) -> int | None:
    """AVI (of several pieces above a gigabyte) and WebP."""
    at, size = 0, _size(file)
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            return 0
        if length in (0, 0xFFFFFFFF):
            return None  # its writer was stopped, or wrote to a pipe
        at += 8 + length
    return max(0, at - size)


def _flv(file: BinaryIO) -> int | None:
    found = re.search(rb"\x00\x08filesize\x00(.{8})", file.read(_MAX_FLV), re.DOTALL)
    if not found:
        return None
    (size,) = struct.unpack(">d", found[1])
    return _beyond(file, int(size)) if size > 0 else None


def _ogg(file: BinaryIO) -> int | None:
    """The last page is marked as such (RFC 3533, section 6), of files that were joined that of the last one."""
    size = _size(file)
    file.seek(max(0, size - 2 * _MAX_OGG_PAGE))
    content = file.read()
    at = content.rfind(b"OggS\0")
    if at < 0:
        return None
    head = content[at : at + 27]
    segments = content[at + 27 : at + 27 + head[26]] if len(head) == 27 else b""
    if len(head) < 27 or len(segments) < head[26] or at + 27 + len(segments) + sum(segments) > len(content):
        raise _CutError("it ends within a page")
    if not head[5] & 4:
        raise _CutError("it ends before the page that is marked as the last")
    return 0


def _asf(file: BinaryIO) -> int | None:
    """WMV: the header holds objects, of which one has the size of the file (ASF specification, section 3.2)."""
    file.seek(24)
    (objects,) = struct.unpack("<I2x", file.read(6))
    for _ in range(objects):
        at = file.tell()
        name, length, _, size, live = struct.unpack("<16sQ16sQ40xI", file.read(92))
        if name == _ASF_FILE_PROPERTIES:
            return _beyond(file, size) if size and not live & 1 else None  # else its writer was stopped, or live
        file.seek(at + max(24, length))
    return None


def _jpeg(file: BinaryIO) -> int:
    content = file.read()
    at = 2
    while True:
        found = _MARKER.search(content, at)
        if found is None:
            raise _CutError
        kind = content[found.end() - 1]
        if kind == 0xD9:
            return 0
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")


def _png(file: BinaryIO) -> int:
    file.seek(8)
    while True:
        length, name = struct.unpack(">I4s", _take(file, 8))
        _skip(file, length + 4)
        if name == b"IEND":
            return 0


def _gif(file: BinaryIO) -> int:
    def table(flags: int) -> None:
        if flags & 0x80:
            _skip(file, 3 << ((flags & 7) + 1))

    def blocks() -> None:
        while length := _take(file, 1)[0]:
            _skip(file, length)

    table(_take(file, 13)[10])
    while kind := file.read(1):
        if kind == b"\x21":
            _skip(file, 1)
        elif kind == b"\x2c":
            table(_take(file, 9)[8])
            _skip(file, 1)
        else:
            return 0  # the end mark; what follows counts for nothing
        blocks()
    return 0


def _bmp(file: BinaryIO) -> int:
    return _beyond(file, struct.unpack("<2sI", file.read(6))[1])


_LOOKS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO], int | None]], ...] = (
    (lambda start: start[:4] == _EBML.to_bytes(4, "big"), _matroska),
    (lambda start: start[4:8] in _BOXES, _boxes),
    (lambda start: start[:4] == b"RIFF", _riff),
    (lambda start: start[:3] == b"FLV", _flv),
    (lambda start: start[:4] == b"OggS", _ogg),
    (lambda start: start == _ASF_HEADER, _asf),
    (lambda start: start[:3] == b"\xff\xd8\xff", _jpeg),
    (lambda start: start[:8] == b"\x89PNG\r\n\x1a\n", _png),
    (lambda start: start[:4] == b"GIF8", _gif),
    (lambda start: start[:2] == b"BM", _bmp),
)
