"""Tokens as an .npz file (a zip of arrays) or a .tar file (one webdataset sample), read with bounded memory."""

from __future__ import annotations

import functools
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, BinaryIO

from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import VARIANCE
from vidtok_runtime.files import PartFile
from vidtok_runtime.tokens.sample import PIECE, Member, TokenSample, npy_header, sample_of

Array = NDArray[Any]
_MAX_MEMBERS = 16
_BLOCK = 512  # bytes, of a tar file
_LONGEST_KEY = 100 - len(f".{VARIANCE}.npy")  # bytes
# A zip that grows beyond both is no archive of tokens, but a bomb.
_MAX_GROWTH, _ALWAYS_FINE = 100, 2**26


def write_zip(sample: TokenSample, out: Path, *, force: bool) -> None:
    """Write an .npz file: `latent` or `indices`, perhaps `log_variance`, `pts`, and the description `info.json`.

    Raises OutputError.
    """

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, size, pieces in _contents(sample):
                entry = zipfile.ZipInfo(name)  # dated 1980, so that equal tokens give equal bytes
                entry.file_size = size
                with archive.open(entry, "w") as member:
                    for piece in pieces:
                        member.write(piece)

    PartFile(out, force=force).write_through(fill)


def write_tar(sample: TokenSample, out: Path, *, force: bool) -> None:
    """Write a .tar file with one webdataset sample, whose key is the file's stem, cut where it is long.

    Raises OutputError.
    """
    target = PartFile(out, force=force)
    target.open()
    key = _key(out.stem)
    try:
        for name, size, pieces in _contents(sample):
            entry = tarfile.TarInfo(f"{key}.{name}")
            entry.size = size
            target.write(entry.tobuf(tarfile.GNU_FORMAT))
            for piece in pieces:
                target.write(piece)
            target.write(b"\0" * (-size % _BLOCK))
        target.write(b"\0" * 2 * _BLOCK)
        target.commit()
    finally:
        target.discard()


def _key(stem: str) -> str:
    """It ends at the first dot, and a member's name has 100 bytes."""
    key = stem.replace(".", "_")
    encoded = os.fsencode(key)
    if len(encoded) <= _LONGEST_KEY:
        return key
    return f"{encoded[: _LONGEST_KEY - 9].decode(errors='ignore')}~{sha256(encoded).hexdigest()[:8]}"


def _contents(sample: TokenSample) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Name, size and bytes of every member."""
    header, pts = npy_header(sample.dtype, sample.shape), sample.pts()
    times = npy_header("I64", pts.shape) + pts.tobytes()
    info = json.dumps(sample.info.to_metadata(), separators=(",", ":")).encode()

    def numbers(pieces: Iterator[Array]) -> Iterator[bytes]:
        yield header
        for piece in pieces:
            yield piece.tobytes()

    yield f"{sample.kind}.npy", len(header) + sample.size, numbers(sample.pieces())
    if sample.variances is not None:
        yield f"{VARIANCE}.npy", len(header) + sample.size, numbers(sample.variances())
    yield "pts.npy", len(times), iter([times])
    yield "info.json", len(info), iter([info])


class _Capped(io.FileIO):
    """A file that gives up before one read takes much memory, whatever a header asks for."""

    def read(self, size: int | None = -1) -> bytes:
        most = 4 * PIECE
        content = super().read(most + 1 if size is None or not 0 <= size <= most else size)
        if len(content) > most:
            raise ValueError("a header in it is too large")
        return content


def read_zip(path: Path) -> Iterator[TokenSample]:
    """The tokens of an .npz file, once; raises ValueError, and what `zipfile` raises."""
    with _Capped(path) as file, zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) != len(entries) or len(entries) > _MAX_MEMBERS:
            raise ValueError(f"it has {len(entries)} members, some of one name")
        if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
            raise ValueError("its compression is neither none nor deflate")
        total, stored = sum(entry.file_size for entry in entries), path.stat().st_size
        if total > max(_ALWAYS_FINE, _MAX_GROWTH * stored):
            raise ValueError(f"its {stored:,} bytes would grow to {total:,}")
        yield sample_of({e.filename: Member(e.file_size, functools.partial(archive.open, e)) for e in entries})


def read_tar(path: Path) -> Iterator[TokenSample]:
    """The tokens of a .tar file of one webdataset sample, once; raises ValueError."""
    members: dict[str, Member] = {}
    keys = set()
    total = path.stat().st_size
    with path.open("rb") as file:
        while header := _tar_header(file):
            name, kind, size = header
            start = file.tell()
            if start + size > total:
                raise ValueError("it ends early")
            if kind in "0\0":
                key, _, field = name.rpartition("/")[2].partition(".")
                if field in members:
                    raise ValueError(f"{field} comes twice")
                keys.add(key)
                members[field] = Member(size, functools.partial(_Slice, path, start, size))
            elif kind not in "xg":  # attributes, which say nothing about tokens
                raise ValueError(f"{name!r:.100} is no plain file")
            if len(members) > _MAX_MEMBERS or len(keys) > 1:
                raise ValueError("it holds more than one sample")
            file.seek(start + size + (-size % _BLOCK))
    yield sample_of(members)


def _tar_header(file: IO[bytes]) -> tuple[str, str, int] | None:
    """Name, kind and size of the next member; None at the end. Raises ValueError."""
    block = file.read(_BLOCK)
    if not block.strip(b"\0"):
        return None
    try:
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        raise ValueError(str(error)) from error
    if entry.size < 0:
        raise ValueError("a member has a negative size")
    return entry.name, entry.type.decode("latin-1"), entry.size


class _Slice(io.FileIO):
    """The bytes of a file from `start`, so many and no more."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        super().__init__(path)
        self.seek(start)
        self._left = size

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(self._left if size is None or size < 0 else min(size, self._left))
        self._left -= len(content)
        return content
