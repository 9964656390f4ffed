"""Writing a token file: one safetensors file, chunk by chunk in constant memory.

Layout: `latent` or `indices` first, time outermost, then log variances, if there are any, and `pts`; the header's space
is reserved at the start and filled in at the end. https://github.com/huggingface/safetensors has the format.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import tempfile
from os import PathLike
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import VARIANCE
from vidtok_runtime.errors import InputError, OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.tokens.info import DTYPES, TokenInfo, rising, storage_dtype

Array = NDArray[Any]
_HEADER = 2048  # bytes, length field included; a multiple of 8
_PIECE = 2**20  # bytes copied at once


class TokenWriter:
    """Appends latents or indices to a token file that appears under its name only when complete."""

    def __init__(
        self,
        path: str | PathLike[str] | RemotePath,
        codebook_size: int | None,
        *,
        half: bool = False,
        force: bool = False,
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
        self._variances: BinaryIO | None = None  # they wait here for the latents to end

    def append(self, data: Array, variances: Array | None = None) -> None:
        """Add latents `[t, C, h, w]`, perhaps with log variances of their shape, or indices `[t, h, w]`.

        Raises InputError, OutputError.
        """
        self._shape = data.shape[1:] if self._shape is None else self._shape
        if data.shape[1:] != self._shape:
            raise InputError(f"tokens of one file are all {list(self._shape)}, got {list(data.shape[1:])}")
        if self._codes is None:
            self._check_latents(data)
        elif not np.issubdtype(data.dtype, np.integer):
            raise InputError(f"tokens must be integers, got {data.dtype}")
        elif data.size and not (data.min() >= 0 and data.max() < self._codes):
            raise InputError(f"tokens must lie in 0..{self._codes - 1}, got {data.min()}..{data.max()}")
        if variances is not None:
            self._set_aside(data, variances)
        self._write(np.ascontiguousarray(data, DTYPES[self._type]).tobytes())
        self._count += len(data)

    def _check_latents(self, data: Array) -> None:
        if not np.issubdtype(data.dtype, np.floating):
            raise InputError(f"latents must be floats, got {data.dtype}")
        if not np.isfinite(data).all():
            raise InputError("latents hold NaN or infinite values")
        if np.abs(data).max(initial=0) > np.finfo(DTYPES[self._type]).max:
            better = "float32" if self._type == "F16" else "smaller"
            raise InputError(f"a latent is too large for {np.dtype(DTYPES[self._type]).name}; store {better} latents")

    def _set_aside(self, data: Array, variances: Array) -> None:
        if self._codes is not None or variances.shape != data.shape:
            raise InputError(f"log variances of {list(variances.shape)} do not go with tokens of {list(data.shape)}")
        try:
            if self._variances is None:
                self._variances = cast(BinaryIO, tempfile.TemporaryFile(dir=self._part.part.parent))  # noqa: SIM115
            self._variances.write(np.ascontiguousarray(variances, DTYPES[self._type]).tobytes())
        except OSError as error:
            raise self._part.failure(error) from error

    def _write(self, content: bytes) -> None:
        self._part.write(content)
        self._sum.update(content)

    def close(self, info: TokenInfo, pts: Array) -> None:
        """Write timestamps and header, then give the file its name; raises InputError when they do not fit."""
        shape = [self._count, *(self._shape or ())]
        try:
            TokenInfo.from_metadata(info.to_metadata())  # what is written can be read
            info.check_shape(self._name, self._type, shape)
            if len(pts) != info.num_frames:
                raise ValueError(f"{info.num_frames} frames do not have as many timestamps, but {len(pts)}")
            times = rising(pts).astype("<i8").tobytes()
        except ValueError as error:
            raise InputError(f"these tokens do not fit their description: {error}") from error
        size = math.prod(shape) * np.dtype(DTYPES[self._type]).itemsize
        sizes: dict[str, tuple[str, list[int], int]] = {self._name: (self._type, shape, size)}
        if self._variances is not None:
            self._copy_variances(size)
            sizes[VARIANCE] = (self._type, shape, size)
        if padding := -size * len(sizes) % 8:  # keeps pts aligned
            self._write(b"\0" * padding)
            sizes["padding"] = ("U8", [padding], padding)
        self._write(times)
        sizes["pts"] = ("I64", [len(pts)], len(times))
        header: dict[str, Any] = {"__metadata__": {**info.to_metadata(), "checksum": f"sha256:{self._sum.hexdigest()}"}}
        end = 0
        for name, (dtype, counts, length) in sizes.items():
            header[name] = {"dtype": dtype, "shape": counts, "data_offsets": [end, end + length]}
            end += length
        text = json.dumps(header, separators=(",", ":")).encode()
        room = _HEADER - 8
        if len(text) > room:
            raise InputError(f"the header needs {len(text)} bytes, {room} are reserved")
        self._part.write(struct.pack("<Q", room) + text.ljust(room), at=0)
        self._part.commit()

    def _copy_variances(self, size: int) -> None:
        """Put them behind the latents, which have as many bytes."""
        assert self._variances is not None
        try:
            found = self._variances.tell()
            self._variances.seek(0)
            while found == size and (piece := self._variances.read(_PIECE)):
                self._write(piece)
        except OutputError:  # which says it already
            raise
        except OSError as error:
            raise self._part.failure(error) from error
        if found != size:
            raise InputError("some latents came with log variances and some without")

    def discard(self) -> None:
        """Remove what was written, unless it is closed and has its name."""
        self._part.discard()
        if self._variances is not None:
            self._variances.close()

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.discard()
