"""ONNX files whose protobuf is not what a writer writes: what onnx's own parser sees in them decides who is right."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import TensorProto, helper
from onnx_mutations import CLASSES, HIDDEN, SOUND, field, model, mutations

from vidtok_runtime.bundle import onnx_file
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.bundle.onnx_file import check_model

QUICK = 3_000
THOROUGH = int(os.environ.get("VIDTOK_FUZZ", "5000"))
KIT = Path(__file__).parents[1] / "conformance/kit"
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
        (field(7, field(5, HIDDEN)), "in another file"),
        (field(7, field(15, field(1, HIDDEN))), "in another file"),  # of a sparse tensor
        (field(7, field(1, field(5, field(6, field(5, HIDDEN))))), "in another file"),  # in a graph inside
        (field(7, field(5, field(14, 2**32))), "in another file"),  # 0, to a parser of 32 bits
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
        with pytest.raises(ValueError, match="none that vidtok-export writes"):
            check_model(content.SerializeToString())


def test_operators_that_a_node_names_twice() -> None:
    node = field(4, b"Add") + field(7, b"") + field(7, b"com.microsoft")
    with pytest.raises(ValueError, match="twice"):
        check_model(field(7, field(1, node)))


def test_foreign_operators_that_are_listed() -> None:
    def attention(domain: str) -> bytes:
        return model(helper.make_node("MultiHeadAttention", ["w"], ["y"], domain=domain)).SerializeToString()

    check_model(attention("com.microsoft"))
    with pytest.raises(ValueError, match="none that"):
        check_model(attention("x"))


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
    caught = passed = 0
    for content in mutations(random.Random(5), count):
        parsed = None
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
        # Of the messages that may hold tensors, nothing that could be a tensor is unknown to onnx.
        for message in messages(parsed):
            unknown = UnknownFieldSet(message) if isinstance(message, tuple(CLASSES.values())) else ()
            assert all(one.wire_type != 2 for one in unknown), content.hex()
    assert caught > count / 100
    assert passed > count / 20
