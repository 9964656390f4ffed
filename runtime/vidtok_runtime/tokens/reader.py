"""Reading a token file piece by piece, and believing nothing that its header says before it is checked."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import VARIANCE
from vidtok_runtime.checked_json import Fields, parse_json, shown
from vidtok_runtime.errors import TokenFileError
from vidtok_runtime.files import is_file
from vidtok_runtime.places import read_range, size_of
from vidtok_runtime.remote import RemotePath, place_of
from vidtok_runtime.tokens.info import DTYPES, FORMAT, READ_VERSIONS, TokenInfo, rising

Array = NDArray[Any]
_MAX_HEADER = 2**20  # bytes
_OUR_HEADER = 2048
_PIECE = 2**20  # bytes read at once where the whole does not matter


class TokenReader:
    """A token file whose numbers are read piece by piece. Raises TokenFileError."""

    def __init__(self, path: str | PathLike[str] | RemotePath) -> None:
        self.path = place_of(path)
        try:
            if not is_file(self.path):
                raise TokenFileError(f"{self.path} is no file; make one with vidtok-run encode")
            self._read_header()
        except TokenFileError:
            raise
        except OSError as error:
            raise self._failure(error) from error
        except (KeyError, ValueError) as error:
            raise TokenFileError(f"{self.path} is not a sound token file: {error}; encode the clip again") from error

    def _read_header(self) -> None:
        total = size_of(self.path)
        start = read_range(self.path, 0, _OUR_HEADER)
        if len(start) < 8:
            raise TokenFileError(f"{self.path} is no token file: it has {total} bytes")
        (room,) = struct.unpack("<Q", start[:8])
        if room > min(total, _MAX_HEADER):
            raise TokenFileError(f"{self.path} is truncated or no token file; encode the clip again")
        more = read_range(self.path, len(start), 8 + room) if 8 + room > len(start) else b""
        header = Fields(parse_json((start + more)[8 : 8 + room]), "the header")
        metadata = header.mapping("__metadata__")
        if metadata.get("format") != FORMAT:
            raise TokenFileError(
                f"{self.path} is a safetensors file, but not of tokens; make one with vidtok-run encode"
            )
        if metadata.get("format_version") not in READ_VERSIONS:
            raise TokenFileError(
                f"{self.path} has token format {shown(metadata.get('format_version')):.20}, this runtime reads "
                f"{' and '.join(READ_VERSIONS)}; encode the clip again or update vidtok-onnx"
            )
        self._start = 8 + room
        self._places = self._find_arrays(header, total)
        self.info = TokenInfo.from_metadata(metadata)
        self.checksum = str(metadata["checksum"])
        if not re.fullmatch("sha256:[0-9a-f]{64}", self.checksum):
            raise ValueError("its checksum is no SHA-256")
        self.kind = "indices" if "indices" in self._places else "latent"
        self.dtype, self.shape, _ = self._places[self.kind]
        self.info.check_shape(self.kind, self.dtype, self.shape)
        self.has_variance = VARIANCE in self._places
        if self.has_variance and (
            metadata["format_version"] == "2" or self._places[VARIANCE][:2] != (self.dtype, self.shape)
        ):
            raise ValueError(f"{VARIANCE} is not of the type and shape of the latents, or of an older version")
        if self._places["pts"][:2] != ("I64", (self.info.num_frames,)):
            raise ValueError(f"{self.info.num_frames} frames do not have as many timestamps")

    def _find_arrays(self, header: Fields, total: int) -> dict[str, tuple[str, tuple[int, ...], int]]:
        """Type, shape and offset of each array; raises ValueError unless they fill the file without gap or overlap."""
        names = header.names() - {"__metadata__"}
        if names - {"padding", "pts"} not in ({"latent"}, {"latent", VARIANCE}, {"indices"}) or "pts" not in names:
            raise ValueError("it does not hold timestamps and either latents or indices")
        places, spans = {}, []
        for name in names:
            entry = header.fields(name)
            dtype = entry.one_of("dtype", ("U8",) if name == "padding" else DTYPES)
            shape = entry.integers("shape", 4)
            start, end = entry.integers("data_offsets", 2)
            size = 1 if name == "padding" else np.dtype(DTYPES[dtype]).itemsize
            if not 0 < end - start == math.prod(shape) * size:
                raise ValueError(f"{name} is empty or does not have the size of its shape")
            if name == "padding" and len(shape) != 1:
                raise ValueError(f"padding of shape {list(shape)}")
            places[name] = (dtype, shape, start)
            spans.append((start, end))
        reached = 0
        for start, end in sorted(spans):
            if start != reached:
                raise ValueError("its arrays overlap or leave gaps")
            reached = end
        if total != self._start + reached:
            raise TokenFileError(
                f"{self.path} is truncated: {total} bytes, its header promises {self._start + reached}; encode the "
                "clip again"
            )
        return places

    def _load(self, name: str, start: int, stop: int) -> Array:
        code, shape, offset = self._places[name]
        dtype = np.dtype(DTYPES[code])
        row = math.prod(shape[1:])
        try:
            first, last = (self._start + offset + at * row * dtype.itemsize for at in (start, stop))
            content = read_range(self.path, first, last) if last > first else b""
        except OSError as error:
            raise self._failure(error) from error
        if len(content) != last - first:
            raise TokenFileError(f"{self.path} became shorter while it was read; start again")
        return np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """Latents `[t, C, h, w]` float32 or indices `[t, h, w]` int32 of the range."""
        return self.read_stored(start, stop).astype(np.int32 if self.kind == "indices" else np.float32)

    def read_variance(self, start: int = 0, stop: int | None = None) -> Array | None:
        """Log variances `[t, C, h, w]` float32 of the range; None where the file has none."""
        return self.read_stored(start, stop, VARIANCE).astype(np.float32) if self.has_variance else None

    def read_stored(self, start: int = 0, stop: int | None = None, name: str | None = None) -> Array:
        """A range of latents or indices, or of the array `name`, in the type of the file."""
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        return self._load(name or self.kind, min(start, stop), stop)

    def pieces(self, part: slice = slice(None), name: str | None = None) -> Iterator[Array]:
        """What `read_stored` gives of a range, about a megabyte at a time."""
        start, stop, _ = part.indices(self.shape[0])
        step = max(1, _PIECE // (4 * math.prod(self.shape[1:])))
        for first in range(start, stop, step):
            yield self.read_stored(first, min(stop, first + step), name)

    def pts(self) -> Array:
        """Timestamp of every frame, int64 in units of the time base, rising."""
        pts = self._load("pts", 0, self.info.num_frames)
        try:
            return rising(pts)
        except ValueError as error:
            raise TokenFileError(f"{self.path} is damaged: {error}; encode the clip again") from error

    def verify(self) -> None:
        """Raise TokenFileError unless the numbers are those that were written."""
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                file.seek(self._start)
                while piece := file.read(_PIECE):
                    digest.update(piece)
        except OSError as error:
            raise self._failure(error) from error
        if f"sha256:{digest.hexdigest()}" != self.checksum:
            raise TokenFileError(f"{self.path} is damaged: its checksum does not match; encode the clip again")

    def _failure(self, error: OSError) -> TokenFileError:
        return TokenFileError(f"{self.path} cannot be read: {error.strerror or error}")
