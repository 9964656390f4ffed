"""Small ONNX models written byte by byte, as writers do and as none does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vidtok_runtime.bundle import onnx_file

# Letter of a message in the walker's table -> onnx's own class.
CLASSES: dict[str, Any] = {
    "M": onnx.ModelProto,
    "G": onnx.GraphProto,
    "N": onnx.NodeProto,
    "A": onnx.AttributeProto,
    "T": onnx.TensorProto,
    "S": onnx.SparseTensorProto,
}


def varint(value: int, extra: int = 0) -> bytes:
    """A number, and `extra` bytes more than it needs."""
    out = bytearray()
    while value > 127 or extra:
        extra -= value <= 127
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes, high: int = 0) -> bytes:
    """A field of a message, `high` added to its tag."""
    if isinstance(value, int):
        return varint((number << 3) + high) + varint(value)
    return varint((number << 3 | 2) + high) + varint(len(value)) + value


LOCATION = field(1, b"location") + field(2, b"secret.bin")  # of an external tensor
HIDDEN = field(1, 2) + field(2, 1) + field(8, b"w") + field(14, 1) + field(13, LOCATION)


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    graph = helper.make_graph(
        list(nodes), "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])], [weight]
    )
    return helper.make_model(graph)


SOUND = model(helper.make_node("Add", ["w", "w"], ["y"])).SerializeToString()


def _bases() -> list[bytes]:
    """Small models that have a tensor in every place that can hold one."""
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "t")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [], [tensor])
    sparse = helper.make_sparse_tensor(tensor, numpy_helper.from_array(np.arange(2)), [4])
    full = model(
        helper.make_node("If", ["w"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("X", ["y"], ["z"], tensors=[tensor, tensor], ints=[1, 2**40, -1], f=0.5, graphs=[inner]),
    )
    full.graph.sparse_initializer.append(sparse)
    floats = helper.make_tensor("f", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    full.graph.initializer.extend([floats, helper.make_tensor("d", TensorProto.DOUBLE, [1], [1.0])])
    return [SOUND, full.SerializeToString()]


def _tree(content: bytes, letter: str) -> list[list[Any]]:
    """[number, wire type, value] of every field; messages that may hold tensors as trees of their own."""
    kinds = onnx_file._MESSAGES[letter]
    fields = []
    for number, wire, first, last in onnx_file._fields(content, 0, len(content)):
        kind, value = kinds[number], content[first:last]
        fields.append([number, wire, (kind, _tree(value, kind)) if kind in CLASSES else value])
    return fields


def _places(fields: list[list[Any]], letter: str) -> Iterator[tuple[str, list[list[Any]]]]:
    """Every message of a tree."""
    yield letter, fields
    for _, _, value in fields:
        if isinstance(value, tuple):
            yield from _places(value[1], value[0])


def _written(fields: list[list[Any]], chance: random.Random, odd: float) -> bytes:
    """The bytes of a tree; with the chance `odd`, a number of it is written as no writer would."""
    out = bytearray()

    def number(value: int, tag: bool = False) -> bytes:
        if chance.random() >= odd:
            return varint(value)
        if tag and chance.random() < 0.7:
            return varint(value + (chance.randrange(1, 64) << chance.choice([32, 33, 35, 40, 60])))
        return (
            varint(value, chance.randrange(1, 5))
            if chance.random() < 0.7
            else varint(max(0, value + chance.randint(-2, 2)))
        )

    for key, wire, value in fields:
        content = _written(value[1], chance, odd) if isinstance(value, tuple) else value
        out += number(key << 3 | wire, tag=True)
        if wire == 2:
            out += number(len(content))
        out += content
    return bytes(out)


def _mutated(chance: random.Random, trees: list[list[list[Any]]]) -> bytes:
    """A model with some of its fields moved, doubled, renumbered, hidden, or written oddly."""
    copy = _copied(chance.choice(trees))
    for _ in range(chance.randrange(4)):
        letter, fields = chance.choice(list(_places(copy, "M")))
        at = chance.randrange(len(fields) + 1)
        action = chance.choice([0, 0, 0, 1, 2, 3, 4, 5])
        numbers = [n for n, kind in enumerate(onnx_file._MESSAGES[letter]) if kind in "TSEL"] or [chance.randrange(30)]
        if action == 0:
            hidden = chance.choice([HIDDEN, LOCATION, b"\1", b"", field(5, HIDDEN), field(1, HIDDEN)])
            wire = chance.choice([2, 2, 2, 0, 1, 3, 5])
            fields.insert(at, [chance.choice([*numbers, chance.randrange(30)]), wire, hidden if wire == 2 else b"\1"])
        elif action == 1 and letter == "N":
            fields.insert(at, [chance.choice([4, 7]), 2, chance.choice([b"com.microsoft", b"", b"ai.onnx", b"Add"])])
        elif fields and action == 2:
            del fields[at % len(fields)]
        elif fields and action == 3:
            fields.insert(at, _copied([fields[at % len(fields)]])[0])
        elif fields and action == 4:
            fields[at % len(fields)][0] = chance.choice(numbers)
        elif fields:
            fields[at % len(fields)][1] = chance.randrange(8)
    content = _written(copy, chance, chance.choice([0, 0, 0.01, 0.1]))
    if chance.random() < 0.2:
        at = chance.randrange(len(content) + 1)
        content = content[:at] + chance.randbytes(chance.randrange(4)) + content[at + chance.randrange(3) :]
    return content


def _copied(fields: list[list[Any]]) -> list[list[Any]]:
    return [[n, w, (v[0], _copied(v[1])) if isinstance(v, tuple) else v] for n, w, v in fields]


def mutations(chance: random.Random, count: int) -> Iterator[bytes]:
    """So many models that are changed at random; most are a changed one with other bytes in a few places."""
    trees, made = [_tree(content, "M") for content in _bases()], b""
    for i in range(count):
        if i % 8 == 0:
            made = _mutated(chance, trees)
        content = bytearray(made)
        for _ in range(chance.randrange(1, 4) if i % 8 and made else 0):
            content[chance.randrange(len(made))] = chance.choice(
                [chance.randrange(256), *b"\0\1\2\x2a\x3a\x6a\x70\x80"]
            )
        yield bytes(content)
