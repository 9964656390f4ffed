"""A zip archive of tensors that `torch.save` or `torch.jit.save` wrote: its files and its numbers.

`NAME/data.pkl` describes what is in it, `NAME/data/N` holds the numbers of a storage.
"""

from __future__ import annotations

import math
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import torch
from torch import Tensor

# Limits for damaged and hostile files; the archives of video tokenizers stay far below.
LONGEST = 1000  # characters of a name
_MAX_AXES = 8

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Archive:
    """Files and storages of an archive of so many bytes; each file is read at most once, and none is unpacked."""

    def __init__(self, file: ZipFile, size: int) -> None:
        names = file.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) > len(set(names)):
            raise ValueError("it holds a file twice")
        if len(roots) != 1:
            raise ValueError("it has no data.pkl, or several")
        self._file, self._root, self._left = file, roots[0], size
        self._storages: dict[str, bytearray] = {}
        if f"{self._root}byteorder" in names and self.read("byteorder", 16) != b"little":
            raise ValueError("its numbers are not little-endian")

    def read(self, name: str, most: int) -> bytes:
        """The content of a file of at most so many bytes."""
        try:
            info = self._file.getinfo(self._root + name)
        except KeyError as error:
            raise ValueError(f"it lacks {name[:LONGEST]!r}") from error
        # As PyTorch writes them; so what is read is never more than what is on the disk.
        if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"{name[:LONGEST]!r} is compressed")
        self._left -= info.file_size
        if self._left < 0 or info.file_size > most:
            raise ValueError(f"{name[:LONGEST]!r} says that it has {info.file_size} bytes, which is too much")
        return self._file.read(info)

    def storage(self, dtype: torch.dtype, key: str, count: int) -> Tensor:
        """The first `count` numbers of a storage, one axis."""
        if key not in self._storages:
            self._storages[key] = bytearray(self.read(f"data/{key}", self._left))
        content = self._storages[key]
        if not 0 <= count * dtype.itemsize <= len(content):
            raise ValueError(
                f"{key[:LONGEST]!r} in data does not hold {count} numbers of {str(dtype).removeprefix('torch.')}"
            )
        return torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def view(numbers: Tensor, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> Tensor:
    """A view of a storage that lies within it and repeats no number."""
    if len(size) != len(stride) or len(size) > _MAX_AXES:
        raise ValueError(f"its data.pkl has a tensor of {len(size)} axes with {len(stride)} strides")
    if not all(type(n) is int and 0 <= n < 1 << 40 for n in (offset, *size, *stride)):
        raise ValueError("its data.pkl has a tensor whose size is none")
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(numbers) or (0 not in size and offset + last >= len(numbers)) or offset > len(numbers):
        raise ValueError(f"its data.pkl has a tensor of {size} that does not lie within its storage")
    return numbers.as_strided(size, stride, offset)
