"""Tensors of an archive that `torch.jit.save` wrote; nothing in it is run.

The archive is a zip file: `NAME/data.pkl` describes the attributes of the module, `NAME/data/N` holds the numbers of a
storage. The few opcodes of pickle that TorchScript writes are carried out here, on tensors and plain containers only.
Names of classes and functions are compared with a list and never looked up. The code in the archive is not read.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

# Limits for damaged and hostile files; the archives of video tokenizers stay far below.
_MAX_BYTES = 4 << 20  # of the description, of which one byte can become an object of a hundred
_MAX_VALUES = 1_000_000  # that are visited, since containers may hold the same one many times
_DEEPEST, _LONGEST, _MAX_AXES = 64, 1000, 8  # levels and characters of a name, axes of a tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


class _Name(NamedTuple):
    """Of a class or a function."""

    module: str
    name: str


_TENSOR = _Name("torch._utils", "_rebuild_tensor_v2")
_DICT = _Name("collections", "OrderedDict")
_TYPED = _Name("torch.jit._pickle", "restore_type_tag")
_KNOWN = {_TENSOR, _DICT, _TYPED, *(_Name("torch.jit._pickle", name) for name in _LISTS)}
_KNOWN |= {_Name("torch", name) for name in _DTYPES}


class _Module(dict[Any, Any]):
    """Attributes of a module by name."""


def is_torchscript(path: Path) -> bool:
    """Whether a file is named or built as an archive of TorchScript; `torch.save` writes no constants."""
    if path.suffix == ".jit":
        return True
    try:
        with ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (BadZipFile, ValueError, OSError, RuntimeError):
        return False


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Tensors by the attributes that lead to them (`encoder.conv.weight`), in the dtype of the archive.

    Raises ValueError or what `zipfile` raises.
    """
    with ZipFile(path) as file:
        try:
            module = _Description(_Archive(file, path.stat().st_size)).module()
        except (IndexError, KeyError) as error:
            raise ValueError("its data.pkl is damaged") from error
    found: dict[str, Tensor] = {}
    for name, tensor in _tensors(module):
        if name in found:
            raise ValueError(f"it holds {name!r} twice")
        found[name] = tensor
    if not found:
        raise ValueError("it holds no tensor under a name, as is so when a module was frozen")
    return found


class _Archive:
    """Files and storages of an archive of so many bytes; each file is read at most once, and none is unpacked."""

    def __init__(self, file: ZipFile, size: int) -> None:
        names = file.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) > len(set(names)):
            raise ValueError("it holds a file twice")
        if len(roots) != 1:
            raise ValueError("it is no TorchScript archive: it has no data.pkl, or several")
        self._file, self._root, self._left = file, roots[0], size
        self._storages: dict[str, bytearray] = {}
        if f"{self._root}byteorder" in names and self.read("byteorder", 16) != b"little":
            raise ValueError("its numbers are not little-endian")

    def read(self, name: str, most: int) -> bytes:
        """The content of a file of at most so many bytes."""
        try:
            info = self._file.getinfo(self._root + name)
        except KeyError as error:
            raise ValueError(f"it lacks {name[:_LONGEST]!r}") from error
        # As TorchScript writes them; so what is read is never more than what is on the disk.
        if info.compress_type != ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"{name[:_LONGEST]!r} is compressed")
        self._left -= info.file_size
        if self._left < 0 or info.file_size > most:
            raise ValueError(f"{name[:_LONGEST]!r} says that it has {info.file_size} bytes, which is too much")
        return self._file.read(info)

    def storage(self, dtype: torch.dtype, key: str, count: int) -> Tensor:
        """The first `count` numbers of a storage, one axis."""
        if key not in self._storages:
            self._storages[key] = bytearray(self.read(f"data/{key}", self._left))
        content = self._storages[key]
        if not 0 <= count * dtype.itemsize <= len(content):
            raise ValueError(
                f"{key[:_LONGEST]!r} in data does not hold {count} numbers of {str(dtype).removeprefix('torch.')}"
            )
        return torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


class _Description:
    """What the opcodes of `data.pkl` build."""

    def __init__(self, archive: _Archive) -> None:
        self._archive = archive
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def module(self) -> _Module:
        """The module that is described."""
        for opcode, argument, _ in pickletools.genops(self._archive.read("data.pkl", _MAX_BYTES)):
            self._carry_out(opcode.name, argument)
        result = self._stack.pop()
        if not isinstance(result, _Module):
            raise ValueError("it holds no module")
        return result

    def _carry_out(self, opcode: str, argument: Any) -> None:
        push, pop = self._stack.append, self._stack.pop
        match opcode:
            case "PROTO" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                push(argument)
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "MARK":
                self._marks.append(len(self._stack))
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE":
                push(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(reversed([pop() for _ in range(int(opcode[-1]))])))
            case "EMPTY_LIST":
                push([])
            case "APPEND":
                self._extend([pop()])
            case "APPENDS":
                self._extend(self._since_mark())
            case "EMPTY_DICT":
                push({})
            case "SETITEM":
                self._update(list(reversed([pop(), pop()])))
            case "SETITEMS":
                self._update(self._since_mark())
            case "GLOBAL":
                push(_known(argument))
            case "NEWOBJ":
                push(_new(arguments=pop(), name=pop()))
            case "BUILD":
                _build(state=pop(), module=self._stack[-1])
            case "BINPERSID":
                push(self._storage(pop()))
            case "REDUCE":
                push(_reduced(arguments=pop(), name=pop()))
            case _:
                raise ValueError(f"its data.pkl has the opcode {opcode}, which TorchScript does not write")

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("its data.pkl appends to what is no list")
        self._stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        wrong = len(keys) > len(values) or any(type(key) not in (str, int) for key in keys)
        if wrong or type(self._stack[-1]) is not dict:
            raise ValueError("its data.pkl sets items that are none of a dictionary")
        self._stack[-1].update(zip(keys, values, strict=True))

    def _storage(self, given: Any) -> Tensor:
        match given:
            case ("storage", _Name("torch", kind), str(key), str(), int(count)) if kind in _DTYPES:
                return self._archive.storage(_DTYPES[kind], key, count)
        raise ValueError("its data.pkl names a storage in a way that is not known")


def _known(text: str) -> _Name:
    """The name that a GLOBAL opcode gives, which must be one that TorchScript uses."""
    name = _Name(*text.split(" ", 1))
    if name not in _KNOWN and name.module.split(".")[0] != "__torch__":
        raise ValueError(f"its data.pkl asks for {text[:_LONGEST]!r}, which is not allowed")
    return name


def _new(name: Any, arguments: Any) -> _Module:
    if not isinstance(name, _Name) or name in _KNOWN or arguments != ():
        raise ValueError("its data.pkl makes an object that is no module")
    return _Module()


def _build(module: Any, state: Any) -> None:
    if not isinstance(module, _Module) or type(state) is not dict:
        raise ValueError("its data.pkl has a module whose state is no dictionary")
    module.update(state)


def _reduced(name: Any, arguments: Any) -> Any:
    match name, arguments:
        case (_Name() as called, (Tensor() as numbers, int(offset), tuple(size), tuple(stride), bool(), dict())):
            if called == _TENSOR:
                return _tensor(numbers, offset, size, stride)
        case (_Name() as called, ()) if called == _DICT:
            return {}
        case (_Name("torch.jit._pickle", called), (list(items),)) if called in _LISTS:
            return items
        case (_Name() as called, (value, str())) if called == _TYPED:
            return value
    raise ValueError("its data.pkl calls what is no function of TorchScript, or calls it in a way that is not known")


def _tensor(numbers: Tensor, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> Tensor:
    """A view of a storage that lies within it and repeats no number."""
    if len(size) != len(stride) or len(size) > _MAX_AXES:
        raise ValueError(f"its data.pkl has a tensor of {len(size)} axes with {len(stride)} strides")
    if not all(type(n) is int and 0 <= n < 1 << 40 for n in (offset, *size, *stride)):
        raise ValueError("its data.pkl has a tensor whose size is none")
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > len(numbers) or (0 not in size and offset + last >= len(numbers)) or offset > len(numbers):
        raise ValueError(f"its data.pkl has a tensor of {size} that does not lie within its storage")
    return numbers.as_strided(size, stride, offset)


def _tensors(module: _Module) -> Iterator[tuple[str, Tensor]]:
    """All tensors in modules and containers, by their attributes, keys and positions, joined by dots."""
    waiting: list[tuple[str, int, Any]] = [("", 0, module)]
    left = _MAX_VALUES
    while waiting:
        prefix, depth, container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        left -= len(container)
        if left < 0 or depth > _DEEPEST:
            raise ValueError("its modules are nested too deeply, or too many")
        for key, value in items:
            if isinstance(value, Tensor | dict | list) or type(value) is tuple:
                name = f"{prefix}{key}"
                if len(name) > _LONGEST:
                    raise ValueError("it has a tensor whose name is too long")
                if isinstance(value, Tensor):
                    yield name, value
                else:
                    waiting.append((f"{name}.", depth + 1, value))
