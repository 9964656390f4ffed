"""The rooms of the code: imports lead down the data flow, never up, and no files import each other in a circle."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("rooms", Path(__file__).parents[1] / "scripts/rooms.py")
assert _SPEC is not None
assert _SPEC.loader is not None
rooms = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rooms)

ARROWS = rooms.graph()
# Lowest first; what stands on one floor does not import each other.
FLOORS = {
    "vidtok_runtime": [
        {"errors", "remote"},
        {"lists", "locks", "machine", "arguments", "versions"},
        {"files", "checked_json"},
        {"places"},
        {"bundle", "video"},
        {"engines"},
        {"streaming"},
        {"tokens"},
        {"memory", "quality"},
        {"tokenizer"},
        {"pipeline"},
        {"evaluation", "view", "dataset", "bench"},
        {"tools"},
        {"cli"},
    ],
    "vidtok_ref": [
        {"errors", "archives"},
        {"token_dataset"},
        {"streaming", "weights"},
        {"layers", "regularizers"},
        {"tokenizer"},
        {"families", "perceptual"},
        {"train"},
    ],
    "vidtok_export": [
        {"errors", "compact"},
        {"lowering", "footprint", "simplify", "targets", "trace"},
        {"parts"},
        {"graph", "operations"},
        {"verify"},
        {"against", "bundle", "metric"},
        {"quantization", "servers"},
        {"cli"},
    ],
}


@pytest.mark.parametrize("package", FLOORS)
def test_imports_lead_down(package: str) -> None:
    floor = {f"{package}.{name}": i for i, names in enumerate(FLOORS[package]) for name in names}
    inside = {name: found for name, found in ARROWS.items() if name.startswith(f"{package}.")}
    assert {rooms.room(name) for name in inside} == set(floor), (
        "a room is not on the list, or the list has one too many"
    )
    wrong = [
        f"{name} imports {other}"
        for name, found in inside.items()
        for other in found
        if other.startswith(f"{package}.")
        and rooms.room(other) != rooms.room(name)
        and floor[rooms.room(other)] >= floor[rooms.room(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert not rooms.circle(ARROWS)


def test_the_runtime_stands_alone() -> None:
    assert not [
        f"{name} imports {other}"
        for name, found in ARROWS.items()
        for other in found
        if name.startswith("vidtok_runtime") and not other.startswith("vidtok_runtime")
    ]


def test_a_circle_is_found() -> None:
    assert rooms.circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not rooms.circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
