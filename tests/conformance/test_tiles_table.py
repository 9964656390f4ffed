"""The kit's table of tiles: it keeps the rule of docs/format.md, and it is how Python cuts."""

from __future__ import annotations

import json
from itertools import groupby, pairwise
from typing import Any

from cases import KIT

from vidtok_runtime.streaming.tiles import Axis, cuts

TABLE = json.loads((KIT / "tiles.json").read_text())
AXES: list[dict[str, Any]] = TABLE["axes"]


def test_python_cuts_by_the_table() -> None:
    assert (TABLE["format"], TABLE["version"]) == ("vidtok-tiles", 1)
    for row in AXES:
        tiles = Axis(row["length"], row["size"], row["margin"]).tiles
        assert [[*extent, *kept] for extent, kept in tiles] == row["tiles"]
    for (length, margin), rows in groupby(AXES, lambda row: (row["length"], row["margin"])):
        assert [axis.size for axis in cuts(length, margin)] == [row["size"] for row in rows]


def test_the_table_keeps_the_rule() -> None:
    assert len(AXES) > 50
    for row in AXES:
        length, margin, tiles = row["length"], row["margin"], row["tiles"]
        assert tiles[0][2] == 0
        assert tiles[-1][3] == length
        assert all(before[3] == after[2] for before, after in pairwise(tiles))
        assert max(end - start for start, end, _, _ in tiles) == row["size"]
        for start, end, first, last in tiles:
            assert first < last
            assert start == max(0, (first - margin) // 4 * 4)
            assert end == min(length, last + margin)
