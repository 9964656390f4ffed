"""ONNX files whose protobuf is not what a writer writes: what onnx's own parser sees in them decides who is right."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import TensorProto, helper, numpy_helper

from vidtok_runtime import onnx_file
from vidtok_runtime.bundles import SHIPPED
from vidtok_runtime.onnx_file import check_model

QUICK = 3_000
THOROUGH = int(os.environ.get("VIDTOK_FUZZ", "5000"))
KIT = Path(__file__).parent / "conformance/kit"
# Letter of a message in the walker's table -> onnx's own class.
CLASSES: dict[str, Any] = {
    "M": onnx.ModelProto,
    "G": onnx.GraphProto,
    "N": onnx.NodeProto,
    "A": onnx.AttributeProto,
    "T": onnx.TensorProto,
    "S": onnx.SparseTensorProto,
}
# Fields of onnx that vidtok-export does not write, so that they are refused.
NOT_OURS = {"training_info", "functions", "configuration", "device_configurations", "segment"}


def test_the_table_of_fields_is_that_of_onnx() -> None:
    kinds = {
        FieldDescriptor.TYPE_INT64: "vi",
        FieldDescriptor.TYPE_INT32: "vi",
        FieldDescriptor.TYPE_UINT64: "vi",
        FieldDescriptor.TYPE_ENUM: "vL",
        FieldDescriptor.TYPE_STRING: "b",
        FieldDescriptor.TYPE_BYTES: "b",
        FieldDescriptor.TYPE_FLOAT: "fx",
        FieldDescriptor.TYPE_DOUBLE: "d",
    }
    letters = {cls.DESCRIPTOR.name: letter for letter, cls in CLASSES.items()}
    for letter, cls in CLASSES.items():
        table = onnx_file._MESSAGES[letter]
        known = {field.number: field for field in cls.DESCRIPTOR.fields}
        for number, kind in enumerate(table):
            field = known.pop(number, None)
            if kind == ".":
                assert field is None or field.name in NOT_OURS
            elif field.message_type:
                assert kind == letters.get(field.message_type.name, "E" if field.name == "external_data" else "b")
            else:
                assert kind in kinds[field.type]
        assert {field.name for field in known.values()} <= NOT_OURS


@pytest.mark.parametrize("path", [*SHIPPED.glob("*/*.onnx"), *KIT.glob("*/*.onnx")], ids=lambda p: f"{p.parts[-2:]}")
def test_our_own_graphs_pass(path: Path) -> None:
    check_model(path.read_bytes())


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


@pytest.mark.parametrize("bit", range(32, 70))
def test_tags_with_bits_that_parsers_drop(bit: int) -> None:
    """A tensor in other files that looks like an unknown field to whoever reads the whole tag."""
    graph = field(7, field(5, HIDDEN, 1 << bit))
    with pytest.raises(ValueError, match=r"exporters write none|longer than it needs"):
        check_model(graph)
    with pytest.raises(ValueError, match=r"exporters write none|longer than it needs"):
        check_model(field(7, field(5, HIDDEN), 1 << bit) + SOUND)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (SOUND + b"\x3b\x3c", "wire type 3"),  # a group
        (SOUND + b"\x3c", "wire type 4"),
        (SOUND + b"\x3e", "wire type 6"),
        (SOUND + b"\x00\x00", "field 0"),
        (SOUND + b"\xba\x00\x00", "longer than it needs"),  # the tag of a graph in two bytes
        (SOUND + b"\x3a\x80\x00", "longer than it needs"),  # its length
        (SOUND + b"\x08\x8a\x00", "longer than it needs"),  # a number
        (SOUND + b"\x08" + b"\xff" * 9 + b"\x7f", "longer than it needs"),  # 70 bits
        (SOUND + b"\x08" + b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        (SOUND + b"\x08", "ends inside"),
        (SOUND + b"\x3a\x7f", "longer than what holds it"),
        (SOUND + b"\x38\x01", "field 7 of wire type 0"),  # a graph that is a number
        (SOUND + field(7, b""), "2 graphs"),
        (SOUND + field(25, field(7, field(5, field(5, HIDDEN)))), "field 25"),  # a function
        (SOUND + field(20, field(1, field(5, HIDDEN))), "field 20"),  # training
        (SOUND + field(99, HIDDEN), "field 99"),
        (field(7, field(5, HIDDEN)), "other files"),
        (field(7, field(15, field(1, HIDDEN))), "other files"),  # of a sparse tensor
        (field(7, field(1, field(5, field(6, field(5, HIDDEN))))), "other files"),  # in a graph inside
        (field(7, field(5, field(14, 2**32))), "other files"),  # 0, to a parser of 32 bits
        (b"", "0 graphs"),
        (b"\x12\x7f\0\0ORTM" + bytes(200), "another kind"),  # what ONNX Runtime would take for its own format
        (b"\x12\x7f\0\0TFL3" + bytes(200), "another kind"),
    ],
)
def test_what_no_writer_writes(content: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_model(content)


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "ai.onnx.training", "x", "ai.onnx ", "\ufeff"])
def test_operators_of_other_domains(domain: str) -> None:
    check_model(model(helper.make_node("Add", ["w", "w"], ["y"], domain="ai.onnx")).SerializeToString())
    node = helper.make_node("EPContext", ["w"], ["y"], domain=domain)
    inside = helper.make_node("If", ["w"], ["y"], then_branch=helper.make_graph([node], "inside", [], []))
    for content in (model(node), model(inside)):
        with pytest.raises(ValueError, match="none of those that vidtok-export writes"):
            check_model(content.SerializeToString())


def test_operators_that_a_node_names_twice() -> None:
    node = field(4, b"Add") + field(7, b"") + field(7, b"com.microsoft")
    with pytest.raises(ValueError, match="twice"):
        check_model(field(7, field(1, node)))


def test_a_foreign_operator_that_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def attention(domain: str) -> bytes:
        return model(helper.make_node("MultiHeadAttention", ["w"], ["y"], domain=domain)).SerializeToString()

    monkeypatch.setattr(onnx_file, "OPERATORS", frozenset({(b"com.microsoft", b"MultiHeadAttention")}))
    check_model(attention("com.microsoft"))
    with pytest.raises(ValueError, match="none of those"):
        check_model(attention("x"))
    with pytest.raises(ValueError, match="none of those"):
        check_model(model(helper.make_node("EPContext", ["w"], ["y"], domain="com.microsoft")).SerializeToString())


def bases() -> list[bytes]:
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


def tree(content: bytes, letter: str) -> list[list[Any]]:
    """[number, wire type, value] of every field; messages that may hold tensors as trees of their own."""
    kinds = onnx_file._MESSAGES[letter]
    fields = []
    for number, wire, first, last in onnx_file._fields(content, 0, len(content)):
        kind, value = kinds[number], content[first:last]
        fields.append([number, wire, (kind, tree(value, kind)) if kind in CLASSES else value])
    return fields


def places(fields: list[list[Any]], letter: str) -> Iterator[tuple[str, list[list[Any]]]]:
    """Every message of a tree."""
    yield letter, fields
    for _, _, value in fields:
        if isinstance(value, tuple):
            yield from places(value[1], value[0])


def written(fields: list[list[Any]], chance: random.Random, odd: float) -> bytes:
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
        content = written(value[1], chance, odd) if isinstance(value, tuple) else value
        out += number(key << 3 | wire, tag=True)
        if wire == 2:
            out += number(len(content))
        out += content
    return bytes(out)


def mutated(chance: random.Random, trees: list[list[list[Any]]]) -> bytes:
    """A model with some of its fields moved, doubled, renumbered, hidden, or written oddly."""
    copy = _copied(chance.choice(trees))
    for _ in range(chance.randrange(4)):
        letter, fields = chance.choice(list(places(copy, "M")))
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
    content = written(copy, chance, chance.choice([0, 0, 0.01, 0.1]))
    if chance.random() < 0.2:
        at = chance.randrange(len(content) + 1)
        content = content[:at] + chance.randbytes(chance.randrange(4)) + content[at + chance.randrange(3) :]
    return content


def _copied(fields: list[list[Any]]) -> list[list[Any]]:
    return [[n, w, (v[0], _copied(v[1])) if isinstance(v, tuple) else v] for n, w, v in fields]


def messages(message: Message) -> Iterator[Message]:
    """A message and all inside."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type:
            for inner in value if isinstance(value, list) or hasattr(value, "append") else [value]:
                yield from messages(inner)


def holds_what_is_refused(parsed: onnx.ModelProto) -> bool:
    """Whether onnx's parser finds tensors in other files, operators of other domains, or nothing to run."""
    for message in messages(parsed):
        if isinstance(message, TensorProto) and (message.data_location or message.external_data):
            return True
        if isinstance(message, onnx.NodeProto) and message.domain not in ("", "ai.onnx"):
            return True
    return not parsed.HasField("graph")


@pytest.mark.parametrize("count", [QUICK, pytest.param(THOROUGH, marks=pytest.mark.slow)])
def test_what_passes_is_sound_to_onnx(count: int) -> None:
    chance, trees = random.Random(5), [tree(content, "M") for content in bases()]
    caught = passed = 0
    for _ in range(count):
        content, parsed = mutated(chance, trees), None
        with contextlib.suppress(DecodeError):  # where onnx's parser fails, so do those of the engines
            parsed = onnx.ModelProto.FromString(content)
        try:
            check_model(content)
        except ValueError:
            caught += parsed is not None and holds_what_is_refused(parsed)
            continue
        if parsed is None:
            continue
        passed += 1
        assert not holds_what_is_refused(parsed), content.hex()
        # Of the messages that may hold tensors, nothing is unknown to onnx.
        for message in messages(parsed):
            assert not isinstance(message, tuple(CLASSES.values())) or not len(UnknownFieldSet(message)), content.hex()
    assert caught > count / 50
    assert passed > count / 20
