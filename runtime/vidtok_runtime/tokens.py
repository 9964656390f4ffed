"""The token file: one safetensors file, written chunk by chunk in constant memory.

Layout: `latent` or `indices` first, time outermost, then `pts`; the header's space is reserved
at the start and filled in at the end. https://github.com/huggingface/safetensors has the format.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.display import Display
from vidtok_runtime.errors import InputError, MismatchError, TokenFileError
from vidtok_runtime.files import PartFile
from vidtok_runtime.manifest import Manifest

Array = NDArray[Any]
FORMAT = "vidtok-tokens"
FORMAT_VERSION = "1"
_HEADER = 2048  # bytes, length field included; a multiple of 8
_DTYPES = {"F16": "<f2", "F32": "<f4", "U16": "<u2", "U32": "<u4", "I32": "<i4", "I64": "<i8"}


@dataclass(frozen=True)
class TokenInfo:
    """What a token file says about itself besides the numbers."""

    variant: str
    weights_sha256: str
    num_frames: int
    height: int
    width: int
    codebook_size: int | None = None
    fps: Fraction | None = None
    time_base: Fraction | None = None
    precision: str = "fp32"
    provider: str = ""
    window: int | None = None  # frames, of a non-causal variant
    display: Display | None = None  # pixel shape and colours of the clip

    def to_metadata(self) -> dict[str, str]:
        """Strings for the safetensors header."""
        values = {"format": FORMAT, "format_version": FORMAT_VERSION}
        for name, value in vars(self).items():
            if value is not None:
                values[name] = str(value)
        return values

    @classmethod
    def from_metadata(cls, values: dict[str, str]) -> TokenInfo:
        """Inverse of `to_metadata`; raises KeyError or ValueError."""
        return cls(
            variant=values["variant"],
            weights_sha256=values["weights_sha256"],
            num_frames=int(values["num_frames"]),
            height=int(values["height"]),
            width=int(values["width"]),
            codebook_size=int(values["codebook_size"]) if "codebook_size" in values else None,
            fps=Fraction(values["fps"]) if "fps" in values else None,
            time_base=Fraction(values["time_base"]) if "time_base" in values else None,
            precision=values["precision"],
            provider=values["provider"],
            window=int(values["window"]) if "window" in values else None,
            display=Display.parse(values["display"]) if "display" in values else None,
        )

    def check_bundle(self, manifest: Manifest) -> None:
        """Raise MismatchError unless the bundle has the variant and the weights that made the tokens."""
        ours = (self.variant, self.weights_sha256)
        theirs = (manifest.variant, manifest.weights_sha256)
        if ours != theirs:
            raise MismatchError(
                f"these tokens were made by {ours[0]} with weights {ours[1][:12]}, the bundle {manifest.folder} is "
                f"{theirs[0]} with weights {theirs[1][:12]}; give --bundle the one that made them"
            )


def storage_dtype(codebook_size: int | None, half: bool) -> str:
    """Type in the file: F16/F32 latents, U16 indices up to 65,536 codes, else I32."""
    if codebook_size is None:
        return "F16" if half else "F32"
    return "U16" if codebook_size <= 65536 else "I32"


class TokenWriter:
    """Appends latents or indices to a token file that appears under its name only when complete."""

    def __init__(
        self, path: str | PathLike[str], codebook_size: int | None, *, half: bool = False, force: bool = False
    ) -> None:
        self._name = "latent" if codebook_size is None else "indices"
        self._type = storage_dtype(codebook_size, half)
        self._part = PartFile(path, force=force)
        self._part.open()
        self._part.write(b"\0" * _HEADER)
        self._sum = hashlib.sha256()
        self._shape: tuple[int, ...] | None = None
        self._count = 0

    def append(self, data: Array) -> None:
        """Add latents `[t, C, h, w]` or indices `[t, h, w]`."""
        self._shape = data.shape[1:] if self._shape is None else self._shape
        if self._type == "F16" and data.size and np.abs(data).max() > np.finfo(np.float16).max:
            raise InputError("a latent is too large for float16; store float32 latents")
        content = np.ascontiguousarray(data, _DTYPES[self._type]).tobytes()
        self._part.write(content)
        self._sum.update(content)
        self._count += len(data)

    def close(self, info: TokenInfo, pts: Array) -> None:
        """Write timestamps and header, then give the file its name."""
        shape = [self._count, *(self._shape or ())]
        size = math.prod(shape) * np.dtype(_DTYPES[self._type]).itemsize
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


class TokenReader:
    """A token file whose numbers are read piece by piece. Raises TokenFileError."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._read_header()
        except (KeyError, ValueError, TypeError, AttributeError, ZeroDivisionError, struct.error) as error:
            if isinstance(error, TokenFileError):
                raise
            raise TokenFileError(f"{self.path} is not a vidtok token file ({type(error).__name__}: {error})") from error
        except OSError as error:
            raise TokenFileError(f"{self.path} cannot be read: {error.strerror}") from error

    def _read_header(self) -> None:
        total = self.path.stat().st_size
        with self.path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise TokenFileError(f"{self.path} is no token file: it has {total} bytes")
            (room,) = struct.unpack("<Q", prefix)
            if room > min(total, 1 << 24):
                raise TokenFileError(f"{self.path} is truncated or no token file; encode the clip again")
            header = json.loads(file.read(room))
        metadata = header.pop("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise TokenFileError(
                f"{self.path} is a safetensors file, but not of tokens; make one with vidtok-run encode"
            )
        if metadata["format_version"] != FORMAT_VERSION:
            raise TokenFileError(f"{self.path} has token format {metadata['format_version']}; update vidtok-onnx")
        end = 8 + room + max(entry["data_offsets"][1] for entry in header.values())
        if total != end:
            raise TokenFileError(
                f"{self.path} is truncated: {total} bytes, its header promises {end}; encode the clip again"
            )
        self.info = TokenInfo.from_metadata(metadata)
        self.checksum: str = metadata["checksum"]
        self.kind = "indices" if "indices" in header else "latent"
        self._start = 8 + room
        self._entries = header
        self.shape = tuple(header[self.kind]["shape"])
        self.dtype: str = header[self.kind]["dtype"]
        self._check_entries()

    def _check_entries(self) -> None:
        """Raise TokenFileError unless sizes, shapes and offsets agree with each other."""
        for name in (self.kind, "pts"):
            entry = self._entries[name]
            start, end = entry["data_offsets"]
            if end - start != math.prod(entry["shape"]) * np.dtype(_DTYPES[entry["dtype"]]).itemsize or start < 0:
                raise TokenFileError(f"{self.path} is damaged: {name} does not have the size of its shape")
        info = self.info
        if min(info.num_frames, info.height, info.width) < 1 or min(self.shape) < 1:
            raise TokenFileError(f"{self.path} is damaged: it promises no frames or no pixels")
        if self._entries["pts"]["shape"] != [info.num_frames]:
            raise TokenFileError(f"{self.path} is damaged: {info.num_frames} frames do not have as many timestamps")

    def _load(self, name: str, start: int, stop: int) -> Array:
        entry = self._entries[name]
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        row = math.prod(entry["shape"][1:])
        with self.path.open("rb") as file:
            file.seek(self._start + entry["data_offsets"][0] + start * row * dtype.itemsize)
            data = np.fromfile(file, dtype, (stop - start) * row)
        return data.reshape(stop - start, *entry["shape"][1:])

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """Latents `[t, C, h, w]` float32 or indices `[t, h, w]` int32 of the range."""
        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        return self._load(self.kind, start, stop).astype(np.int32 if self.kind == "indices" else np.float32)

    def pts(self) -> Array:
        """Timestamp of every frame, int64 in units of the time base."""
        return self._load("pts", 0, self._entries["pts"]["shape"][0])

    def verify(self) -> None:
        """Raise TokenFileError unless the numbers are those that were written."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            file.seek(self._start)
            while piece := file.read(1 << 20):
                digest.update(piece)
        if f"sha256:{digest.hexdigest()}" != self.checksum:
            raise TokenFileError(f"{self.path} is damaged: its checksum does not match; encode the clip again")


@dataclass(frozen=True)
class Tokens:
    """A tokenized clip: `data` is float32 `[t, C, h, w]` (KL: the mean) or int32 `[t, h, w]` (FSQ)."""

    data: Array
    info: TokenInfo
    pts: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return self.info.num_frames

    @property
    def height(self) -> int:
        """Pixels."""
        return self.info.height

    @property
    def width(self) -> int:
        """Pixels."""
        return self.info.width

    @property
    def fps(self) -> Fraction | None:
        """Frames a second, if known."""
        return self.info.fps

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write a token file (float32 latents, or indices); raises OutputError."""
        with TokenWriter(path, self.info.codebook_size, force=force) as writer:
            writer.append(self.data)
            pts = self.pts if len(self.pts) else np.arange(self.num_frames)
            writer.close(self.info, pts)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Tokens:
        """Read a whole token file and check its checksum; raises TokenFileError."""
        reader = TokenReader(path)
        reader.verify()
        return cls(reader.read(), reader.info, reader.pts())
