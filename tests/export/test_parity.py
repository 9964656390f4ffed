"""Models of families exported: on both engines its bundle gives what the reference does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from narrow import narrow

from vidtok_ref import VideoTokenizer


# An export takes 10 s to 20 s; other tests have the others, or the reference that these are lowered from.
@pytest.mark.parametrize(
    "name",
    [
        "wan-2.2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cogvideox", "cosmos-cv-4x8x8", "cosmos-dv-4x8x8")),
    ],
)
def test_of_an_export(exported: Callable[[VideoTokenizer], Path], name: str) -> None:
    """An export compares one shot and calls of one latent, three sizes, batches of one and two."""
    rows = json.loads((exported(narrow(name)) / "manifest.json").read_text())["parity"]["rows"]
    assert [(row["provider"], row["passed"]) for row in rows] == [("cpu", True), ("openvino", True)]
