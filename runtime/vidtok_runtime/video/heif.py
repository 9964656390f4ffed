"""What the picture of a HEIF file (.heic, .avif) is made of (ISO/IEC 23008-12): its tiles, its crop, its transparency.

FFmpeg gives the tiles one by one and PyAV does not tell where they go; the boxes of the file do.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

from vidtok_runtime.errors import VideoError
from vidtok_runtime.files import is_file
from vidtok_runtime.remote import place_of

_MAX_BYTES = 1 << 24  # of the box that describes the items
_LAYOUT_BYTES = 12  # of a grid, at most
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


@dataclass(frozen=True)
class Heif:
    """The primary picture: tiles, as ids of items row by row, that fill `height` by `width` pixels.

    steps: what is then done to it, in this order: ("clap", left, right, top, bottom) pixels cut off, ("irot", quarters
    anticlockwise), ("imir", axis: 0 swaps top and bottom, 1 left and right). alpha: another picture is its opacity.
    film: this is only a picture of the film that the file holds.
    """

    tiles: tuple[int, ...]
    columns: int
    height: int
    width: int
    steps: tuple[tuple[str, *tuple[int, ...]], ...]
    alpha: bool
    film: bool


class _Reader:
    """Big-endian numbers, one after the other, of a piece of a file."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._data) - self._at:
            raise ValueError("a box ends early")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def version(self) -> tuple[int, int]:
        """Version and flags of a full box."""
        return self.number(1), self.number(3)

    def boxes(self) -> Iterator[tuple[bytes, bytes]]:
        """Kind and content of the boxes that are left."""
        while self._at < len(self._data):
            size, kind = self.number(4), self.take(4)
            rest = len(self._data) - self._at
            yield kind, self.take(self.number(8) - 16 if size == 1 else size - 8 if size else rest)


def read_heif(path: str) -> Heif | None:
    """Describe the primary picture of a file; None for other files. Raises VideoError where it is not well-formed."""
    try:
        if not is_file(place_of(path)):
            return None  # a pipe would lose what is read here
        with place_of(path).open("rb") as file:
            meta, film = _meta(file)
    except (OSError, ValueError, OverflowError):  # it cannot be opened, or a size leads out of every file
        return None  # who opens it next says why
    if b"pitm" not in meta:
        return None
    try:
        return _describe(meta, path, film)
    except (OSError, ValueError, LookupError, struct.error, ZeroDivisionError, OverflowError) as error:
        if film:
            return None  # which is read without
        raise VideoError(f"{path} does not say well what its picture is made of; convert it to .png first") from error


def _meta(file: BinaryIO) -> tuple[bytes, bool]:
    """The box that describes items, empty where none is, and whether there is a film."""
    meta = b""
    head = file.read(8)
    if head[4:] != b"ftyp":
        return meta, False
    while len(head) == 8 and head[4:] != b"moov":
        size = int.from_bytes(head[:4], "big")
        size = int.from_bytes(file.read(8), "big") - 16 if size == 1 else size - 8
        if size < 0:
            break  # up to the end of the file
        if head[4:] == b"meta" and size <= _MAX_BYTES:
            meta = file.read(size)
        else:
            file.seek(size, os.SEEK_CUR)
        head = file.read(8)
    return meta, head[4:] == b"moov"


def _describe(meta: bytes, path: str, film: bool) -> Heif:
    reader = _Reader(meta)
    reader.version()
    boxes = dict(reader.boxes())
    pitm = _Reader(boxes[b"pitm"])
    primary = pitm.number(4 if pitm.version()[0] else 2)
    links = list(_links(boxes[b"iref"])) if b"iref" in boxes else []
    properties = _properties(boxes[b"iprp"])
    own = properties[primary]
    if _kinds(boxes[b"iinf"])[primary] == "grid":
        layout = _Reader(_layout(boxes, primary, path))
        _, flags, rows, columns = (layout.number(1) for _ in range(4))
        width, height = (layout.number(4 if flags & 1 else 2) for _ in range(2))
        tiles = tuple(part for name, item, to in links if (name, item) == (b"dimg", primary) for part in to)
        if len(tiles) != (rows + 1) * (columns + 1):
            raise ValueError("the grid has another number of tiles")
    else:
        width, height = struct.unpack(">II", dict(own)[b"ispe"][4:12])
        tiles, columns = (primary,), 0
    beside = [item for name, item, to in links if name == b"auxl" and primary in to]
    alpha = any(
        name == b"auxC" and value[4:].partition(b"\0")[0] in _ALPHA
        for item in beside
        for name, value in properties.get(item, ())
    )
    return Heif(tiles, columns + 1, height, width, tuple(_steps(own, width, height)), alpha, film)


def _steps(own: list[tuple[bytes, bytes]], width: int, height: int) -> Iterator[tuple[str, *tuple[int, ...]]]:
    for name, value in own:
        if name == b"irot":
            yield "irot", value[0] & 3
        elif name == b"imir":
            yield "imir", value[0] & 1
        elif name == b"clap":
            numbers = struct.unpack(">IIIIiIiI", value[:32])
            kept_width, kept_height, right, down = (Fraction(*numbers[i : i + 2]) for i in (0, 2, 4, 6))
            left, top = int((width - kept_width) / 2 + right), int((height - kept_height) / 2 + down)
            yield "clap", left, width - left - int(kept_width), top, height - top - int(kept_height)


def _kinds(iinf: bytes) -> dict[int, str]:
    """The type of each item."""
    reader = _Reader(iinf)
    reader.number(4 if reader.version()[0] else 2)
    kinds = {}
    for _, content in reader.boxes():
        entry = _Reader(content)
        version = entry.version()[0]
        item, _ = entry.number(4 if version == 3 else 2), entry.number(2)
        kinds[item] = entry.take(4).decode("latin-1")
    return kinds


def _links(iref: bytes) -> Iterator[tuple[bytes, int, list[int]]]:
    """Name, origin and targets of the references between items."""
    reader = _Reader(iref)
    size = 4 if reader.version()[0] else 2
    for name, content in reader.boxes():
        link = _Reader(content)
        yield name, link.number(size), [link.number(size) for _ in range(link.number(2))]


def _properties(iprp: bytes) -> dict[int, list[tuple[bytes, bytes]]]:
    """Name and content of the properties of each item, in their order."""
    boxes = dict(_Reader(iprp).boxes())
    every = list(_Reader(boxes[b"ipco"]).boxes())
    reader = _Reader(boxes[b"ipma"])
    version, flags = reader.version()
    found: dict[int, list[tuple[bytes, bytes]]] = {}
    for _ in range(reader.number(4)):
        item = reader.number(4 if version else 2)
        numbers = [reader.number(2) & 0x7FFF if flags & 1 else reader.number(1) & 0x7F for _ in range(reader.number(1))]
        found[item] = [every[number - 1] for number in numbers if 0 < number <= len(every)]
    return found


def _layout(boxes: dict[bytes, bytes], wanted: int, path: str) -> bytes:
    """The bytes of a layout, which lie in the box `idat` or anywhere in the file."""
    reader = _Reader(boxes[b"iloc"])
    version = reader.version()[0]
    sizes = reader.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(reader.number(4 if version == 2 else 2)):
        item = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base = reader.number(base_size)
        parts = []
        for _ in range(reader.number(2)):
            reader.number(index_size if version else 0)
            parts.append((base + reader.number(offset_size), min(reader.number(length_size), _LAYOUT_BYTES)))
        if item == wanted and method == 1:
            return b"".join(boxes[b"idat"][at : at + length] for at, length in parts)
        if item == wanted and method == 0:
            with place_of(path).open("rb") as file:
                return b"".join(_piece(file, at, length) for at, length in parts)
    raise ValueError("the item is nowhere")


def _piece(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length)
