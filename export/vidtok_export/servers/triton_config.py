"""The pieces of a `config.pbtxt`, which is text of Triton's protobuf message `inference.ModelConfig`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

KINDS = {"cpu": "KIND_CPU", "gpu": "KIND_GPU"}
SEQUENCES = 32  # that one instance interleaves; others wait
IDLE = 60 * 10**6  # microseconds until a sequence without requests is forgotten
TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "bool": "TYPE_BOOL",
}


def block(name: str, lines: Iterable[str]) -> str:
    """A field that holds others."""
    inner = "\n".join(lines).replace("\n", "\n  ")
    return f"{name} {{\n  {inner}\n}}"


def port(name: str, dtype: str, sizes: Sequence[int]) -> list[str]:
    """What an input or output says of itself; -1 for any size."""
    return [f'name: "{name}"', f"data_type: {TYPES[dtype]}", dims(sizes)]


def dims(sizes: Sequence[int]) -> str:
    """Sizes of axes."""
    return f"dims: [ {', '.join(map(str, sizes))} ]"


def instances(kind: str) -> str:
    """One instance on the CPU, or on each GPU."""
    return block("instance_group", [f"kind: {KINDS[kind]}", "count: 1"])


def oldest_first(*more: str, candidates: int = SEQUENCES) -> str:
    """Sequences take turns on an instance: their states belong to them, not to a slot of a batch."""
    lines = [f"max_sequence_idle_microseconds: {IDLE}", block("oldest", [f"max_candidate_sequences: {candidates}"])]
    return block("sequence_batching", [*lines, *more])
