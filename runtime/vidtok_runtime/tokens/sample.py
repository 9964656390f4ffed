"""The tokens of one clip in whatever file they lie, and the .npy arrays in which other tools read them."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import VARIANCE
from vidtok_runtime.checked_json import Fields, parse_json
from vidtok_runtime.tokens.info import DTYPES, KINDS, TokenInfo, rising

Array = NDArray[Any]
PIECE = 2**20  # bytes read at once
_MAX_JSON = 2**20
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_NPY = re.compile(
    rb"\{'descr': '(<[a-z][0-9])', 'fortran_order': False, 'shape': \(([0-9]{1,19}(?:, [0-9]{1,19}){0,3}),?\), \} *\n"
)


@dataclass(frozen=True)
class TokenSample:
    """Description, kind (`latent` or `indices`), type and shape of tokens; `pieces` gives the numbers.

    variances: gives log variances, in the type, shape and pieces of the latents; None: there are none.
    """

    info: TokenInfo
    kind: str
    dtype: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[Array]]
    pts: Callable[[], Array]
    variances: Callable[[], Iterator[Array]] | None = None

    @property
    def size(self) -> int:
        """Bytes of the numbers, log variances left out."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class Member:
    """A file inside an archive: its bytes, uncompressed, and how to open it."""

    size: int
    open: Callable[[], IO[bytes]]


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """What comes before the numbers in an .npy file."""
    header = io.BytesIO()
    fields = {"descr": DTYPES[dtype], "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def sample_of(members: dict[str, Member]) -> TokenSample:
    """The tokens out of `info.json`, `latent.npy` or `indices.npy`, and `pts.npy`; raises ValueError.

    Beside `latent.npy` there may be `log_variance.npy`.
    """
    names = {name.removesuffix(".npy") for name in members} - {"info.json", "pts"}
    variance = VARIANCE in names and "latent" in names
    kind = next(iter(names - {VARIANCE} if variance else names), "")
    if kind not in KINDS or members.keys() != {
        "info.json",
        "pts.npy",
        f"{kind}.npy",
        *([f"{VARIANCE}.npy"] if variance else []),
    }:
        raise ValueError("it does not hold info.json, pts.npy and either latent.npy or indices.npy")
    info = TokenInfo.from_metadata(read_json(members["info.json"]).raw)
    dtype, shape, start = _read_header(members[f"{kind}.npy"])
    info.check_shape(kind, dtype, shape)
    if variance and _read_header(members[f"{VARIANCE}.npy"]) != (dtype, shape, start):
        raise ValueError(f"{VARIANCE} is not of the type and shape of the latents")
    if _read_header(members["pts.npy"])[:2] != ("I64", (info.num_frames,)):
        raise ValueError(f"{info.num_frames} frames do not have as many timestamps")

    def pts() -> Array:
        return rising(np.concatenate(list(arrays(members["pts.npy"], *_read_header(members["pts.npy"])))))

    def numbers(name: str) -> Callable[[], Iterator[Array]]:
        return lambda: arrays(members[f"{name}.npy"], dtype, shape, start)

    return TokenSample(info, kind, dtype, shape, numbers(kind), pts, numbers(VARIANCE) if variance else None)


def read_json(member: Member) -> Fields:
    """An object out of a small JSON file; raises ValueError."""
    if member.size > _MAX_JSON:
        raise ValueError(f"its description has {member.size:,} bytes")
    with member.open() as file:
        return Fields(parse_json(file.read(member.size)), "its description")


def arrays(member: Member, dtype: str, shape: tuple[int, ...], start: int) -> Iterator[Array]:
    """The numbers that begin at byte `start`, in pieces along the first axis; raises ValueError when they end early."""
    row = math.prod(shape[1:])
    step = max(1, PIECE // (8 * row))
    with member.open() as file:
        _read(file, start)
        for first in range(0, shape[0], step):
            count = min(step, shape[0] - first)
            content = _read(file, count * row * np.dtype(DTYPES[dtype]).itemsize)
            yield np.frombuffer(content, DTYPES[dtype]).reshape(count, *shape[1:])


def _read_header(member: Member) -> tuple[str, tuple[int, ...], int]:
    """Type, shape and where the numbers begin, of an .npy file as NumPy writes it; raises ValueError."""
    with member.open() as file:
        magic = _read(file, 10)
        if magic[:8] != b"\x93NUMPY\x01\x00":
            raise ValueError("an array is no .npy file of version 1.0")
        (length,) = struct.unpack("<H", magic[8:])
        match = _NPY.fullmatch(_read(file, length))
    # Text is matched, not evaluated, and object arrays have no place in it.
    dtype = _CODES.get(match[1].decode()) if match else None
    if match is None or dtype is None:
        raise ValueError("an array is not of plain little-endian numbers in C order")
    shape = tuple(int(n) for n in match[2].split(b","))
    start = 10 + length
    if member.size != start + math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise ValueError("an array does not have the size of its shape")
    return dtype, shape, start


def _read(file: IO[bytes], size: int) -> bytes:
    """So many bytes; raises ValueError when there are fewer."""
    content = bytearray()
    while len(content) < size:
        piece = file.read(min(PIECE, size - len(content)))
        if not piece:
            raise ValueError("it ends early")
        content += piece
    return bytes(content)
