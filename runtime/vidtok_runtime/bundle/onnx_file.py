"""Is an ONNX file what exporters write, and which files of weights does it need? Found by walking its protobuf.

No engine opens one before. Field numbers are those of onnx.proto3, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vidtok_runtime.errors import BundleError

# Operators beyond ONNX's own that vidtok-export writes: domain and name.
OPERATORS = frozenset({(b"com.microsoft", b"MultiHeadAttention")})
_OWN = (b"", b"ai.onnx")  # the two names of ONNX's own domain
# What each field of a message is, by its number; a dot is a field that vidtok-export does not write. Parsers pass over
# fields that they do not know, each in its own way, and something may hide there: so they are refused.
_MESSAGES = {
    "M": ".vbbbvbGb.....b",  # model
    "G": ".Nb..T....bbbbbSb",  # graph
    "N": ".bbbbAbbbb",  # node
    "A": ".bfvbTGxibTG.bbb....vbSS",  # attribute
    "T": ".iv.xibibbdibEL.b",  # tensor
    "S": ".TTi",  # sparse tensor
    "E": ".bb",  # name and value of where a tensor's data are in another file
}
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
# The wire types of each kind of field; lists of numbers come one by one or packed into bytes.
_WIRES = {
    "v": (_VARINT,),
    "L": (_VARINT,),  # where a tensor's data are
    "b": (_BYTES,),
    "f": (_FOUR_BYTES,),
    "i": (_VARINT, _BYTES),
    "x": (_FOUR_BYTES, _BYTES),
    "d": (_EIGHT_BYTES, _BYTES),
    **dict.fromkeys(_MESSAGES, (_BYTES,)),
}
_GRAPH, _OPERATOR, _DOMAIN = 7, 4, 7  # fields of a model, and of a node
_EXTERNAL, _LOCATION = 13, 14  # of a tensor
_DEEPEST = 64
# Bytes 4 to 8 of models of other kinds, which engines tell by them: ONNX Runtime's own format and TensorFlow Lite's.
_OTHER_KINDS = (b"ORTM", b"TFL3")

Content = bytes | mmap.mmap


def check_onnx_file(path: Path, weights: Mapping[str, int] | None = None) -> set[str]:
    """Names of the files that an ONNX model keeps weights in, of those in `weights`, which have so many bytes.

    Raises BundleError unless it is one model of known operators whose other weights are inside.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return check_model(content, weights)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} is no ONNX file that can be used: {error}; export it again") from error


def check_model(content: Content, weights: Mapping[str, int] | None = None) -> set[str]:
    """As `check_onnx_file`, of its bytes; raises ValueError."""
    if content[4:8] in _OTHER_KINDS:
        raise ValueError("it is a model of another kind")
    walk = _Walk(content, weights or {})
    walk.check(0, len(content), "M", 0)
    graphs = sum(number == _GRAPH for number, *_ in _fields(content, 0, len(content)))
    if graphs != 1:
        raise ValueError(f"it has {graphs} graphs")
    return walk.named


class _Walk:
    """A walk over all messages of a model; `named` are the files of weights that it met."""

    def __init__(self, content: Content, weights: Mapping[str, int]) -> None:
        self._content, self._weights = content, weights
        self.named: set[str] = set()

    def check(self, start: int, end: int, message: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        kinds = _MESSAGES[message]
        for number, wire, first, last in _fields(self._content, start, end):
            kind = kinds[number] if number < len(kinds) else "."
            if wire not in _WIRES.get(kind, ()):
                raise ValueError(f"it has a field {number} of wire type {wire} where exporters write none")
            if kind in _MESSAGES:
                self.check(first, last, kind, depth + 1)
        if message == "N":
            self._check_operator(start, end)
        elif message == "T":
            self._check_place(start, end)

    def _check_operator(self, start: int, end: int) -> None:
        fields = _fields(self._content, start, end)
        found = [(n, self._content[first:last]) for n, _, first, last in fields if n in (_OPERATOR, _DOMAIN)]
        node = dict(found)
        if len(node) != len(found):
            raise ValueError("a node names its operator twice")
        domain, operator = node.get(_DOMAIN, b""), node.get(_OPERATOR, b"")
        if domain not in _OWN and (domain, operator) not in OPERATORS:
            raise ValueError(f"its operator {operator[:40]!r} of {domain[:40]!r} is none that vidtok-export writes")

    def _check_place(self, start: int, end: int) -> None:
        """Raise ValueError unless a tensor's data are inside, or in a part of a known file."""
        fields = [field for field in _fields(self._content, start, end) if field[0] in (_EXTERNAL, _LOCATION)]
        where = [self._content[first:last] for number, _, first, last in fields if number == _LOCATION]
        pairs = [self._pair(first, last) for number, _, first, last in fields if number == _EXTERNAL]
        if not pairs and where in ([], [b"\0"]):
            return
        if where != [b"\1"] or sorted(name for name, _ in pairs) != [b"length", b"location", b"offset"]:
            raise ValueError("a tensor in another file does not say exactly where: location, offset, length")
        place = dict(pairs)
        name = place[b"location"].decode("utf-8", "replace")
        if name not in self._weights:
            raise ValueError(f"it keeps weights in {name[:60]!r}, which is no file of the manifest's weights_files")
        offset, length = (_decimal(place[key]) for key in (b"offset", b"length"))
        if offset + length > self._weights[name]:
            raise ValueError(f"a tensor goes beyond the end of {name}")
        self.named.add(name)

    def _pair(self, start: int, end: int) -> tuple[bytes, bytes]:
        found = [(number, self._content[first:last]) for number, _, first, last in _fields(self._content, start, end)]
        if sorted(number for number, _ in found) != [1, 2]:
            raise ValueError("the place of a tensor is no name and value")
        return dict(found)[1], dict(found)[2]


def _decimal(text: bytes) -> int:
    if not re.fullmatch(b"[0-9]{1,16}", text):
        raise ValueError(f"a place in a file is {text[:20]!r}")
    return int(text)


def _fields(content: Content, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
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
            raise ValueError(f"it has a field of wire type {wire}")
        if last > end:
            raise ValueError("a field is longer than what holds it")
        yield number, wire, first, last
        start = last


def _varint(content: Content, start: int, end: int) -> tuple[int, int]:
    """A number of 64 bits, 7 bits a byte in as few bytes as it needs, and where it ends."""
    value = 0
    for i in range(10):
        if start + i >= end:
            raise ValueError("it ends inside a number")
        byte = content[start + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value >= 2**64 or (i and not byte):
                raise ValueError("a number is longer than it needs to be")
            return value, start + i + 1
    raise ValueError("a number has more than 10 bytes")
