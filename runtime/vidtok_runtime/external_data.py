"""Does an ONNX file keep tensors in other files? Found by walking its protobuf fields, before any engine opens it.

Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from vidtok_runtime.errors import BundleError

# Message -> number of a field -> message inside it; whatever is not on a way to a tensor is passed over.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor
_GRAPH = 7  # field of a model
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_DEEPEST = 64


def refuse_external_data(path: Path) -> None:
    """Raise BundleError unless the file is an ONNX model all of whose weights are inside it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if not any(number == _GRAPH for number, *_ in _fields(content, 0, len(content))):
                raise ValueError("it has no graph")
            external = _is_external(content, 0, len(content), "model", 0)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} is no sound ONNX file: {error}; export it again") from error
    if external:
        raise BundleError(f"{path} keeps weights in other files, which is refused; export it with the weights inside")


def _is_external(content: mmap.mmap, start: int, end: int, message: str, depth: int) -> bool:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    for number, wire, first, last in _fields(content, start, end):
        inside = _INSIDE[message].get(number) if wire == _BYTES else None
        if inside and _is_external(content, first, last, inside, depth + 1):
            return True
        if message == "tensor" and number == _EXTERNAL_DATA:
            return True
        if message == "tensor" and (number, wire) == (_DATA_LOCATION, _VARINT) and _varint(content, first, last)[0]:
            return True
    return False


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and where the value starts and ends, of every field of the message at `start..end`."""
    while start < end:
        key, start = _varint(content, start, end)
        number, wire = key >> 3, key & 7
        first = start
        if wire == _VARINT:
            _, last = _varint(content, start, end)
        elif wire == _BYTES:
            length, first = _varint(content, start, end)
            last = first + length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            last = first + (8 if wire == _EIGHT_BYTES else 4)
        else:
            raise ValueError(f"a field of wire type {wire}")
        if last > end:
            raise ValueError("a field is longer than what holds it")
        yield number, wire, first, last
        start = last


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """A number, 7 bits a byte, and where it ends."""
    value = 0
    for i in range(10):
        if start + i >= end:
            raise ValueError("it ends inside a number")
        byte = content[start + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, start + i + 1
    raise ValueError("a number has more than 10 bytes")
