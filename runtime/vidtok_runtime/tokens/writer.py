"""Writing a token file: one safetensors file, chunk by chunk in constant memory.

Layout: `latent` or `indices` first, time outermost, then `pts`; the header's space is reserved
at the start and filled in at the end. https://github.com/huggingface/safetensors has the format.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from os import PathLike
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.tokens.info import DTYPES, TokenInfo, rising, storage_dtype

Array = NDArray[Any]
_HEADER = 2048  # bytes, length field included; a multiple of 8


class TokenWriter:
    """Appends latents or indices to a token file that appears under its name only when complete."""

    def __init__(
        self, path: str | PathLike[str], codebook_size: int | None, *, half: bool = False, force: bool = False
    ) -> None:
        self._name = "latent" if codebook_size is None else "indices"
        self._codes = codebook_size
        self._type = storage_dtype(codebook_size, half)
        self._part = PartFile(path, force=force)
        self._part.open()
        self._part.write(b"\0" * _HEADER)
        self._sum = hashlib.sha256()
        self._shape: tuple[int, ...] | None = None
        self._count = 0

    def append(self, data: Array) -> None:
        """Add latents `[t, C, h, w]` or indices `[t, h, w]`; raises InputError."""
        self._shape = data.shape[1:] if self._shape is None else self._shape
        if data.shape[1:] != self._shape:
            raise InputError(f"tokens of one file are all {list(self._shape)}, got {list(data.shape[1:])}")
        if self._type == "F16" and data.size and np.abs(data).max() > np.finfo(np.float16).max:
            raise InputError("a latent is too large for float16; store float32 latents")
        if self._codes is not None and data.size and not (data.min() >= 0 and data.max() < self._codes):
            raise InputError(f"tokens must lie in 0..{self._codes - 1}, got {data.min()}..{data.max()}")
        content = np.ascontiguousarray(data, DTYPES[self._type]).tobytes()
        self._part.write(content)
        self._sum.update(content)
        self._count += len(data)

    def close(self, info: TokenInfo, pts: Array) -> None:
        """Write timestamps and header, then give the file its name; raises InputError when they do not fit."""
        shape = [self._count, *(self._shape or ())]
        try:
            TokenInfo.from_metadata(info.to_metadata())  # what is written can be read
            info.check_shape(self._name, self._type, shape)
            if len(pts) != info.num_frames:
                raise ValueError(f"{info.num_frames} frames do not have as many timestamps, but {len(pts)}")
            rising(pts)
        except ValueError as error:
            raise InputError(f"these tokens do not fit their description: {error}") from error
        size = math.prod(shape) * np.dtype(DTYPES[self._type]).itemsize
        padding = -size % 8  # keeps pts aligned
        times = np.ascontiguousarray(pts, "<i8").tobytes()
        self._part.write(b"\0" * padding + times)
        self._sum.update(b"\0" * padding + times)
        header: dict[str, Any] = {
            "__metadata__": {**info.to_metadata(), "checksum": f"sha256:{self._sum.hexdigest()}"},
            self._name: {"dtype": self._type, "shape": shape, "data_offsets": [0, size]},
        }
        if padding:
            header["padding"] = {"dtype": "U8", "shape": [padding], "data_offsets": [size, size + padding]}
        end = size + padding
        header["pts"] = {"dtype": "I64", "shape": [len(pts)], "data_offsets": [end, end + len(times)]}
        text = json.dumps(header, separators=(",", ":")).encode()
        room = _HEADER - 8
        if len(text) > room:
            raise InputError(f"the header needs {len(text)} bytes, {room} are reserved")
        self._part.write(struct.pack("<Q", room) + text.ljust(room), at=0)
        self._part.commit()

    def discard(self) -> None:
        """Remove what was written, unless it is closed and has its name."""
        self._part.discard()

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.discard()
