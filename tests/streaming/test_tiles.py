"""Tiles: their geometry, and that they give what whole frames give, streamed or not."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidtok_runtime.bundle.graph_entry import GraphEntry, Port, State
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.streaming.tiled_graph import TiledGraph, margin_of, sparing
from vidtok_runtime.streaming.tiles import ALIGNED, Axis, Tiling, cuts, grids

S = 4  # pixels a latent of the graphs below


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    length, margin = draw(st.integers(1, 200)), draw(st.integers(0, 20))
    least = 2 * margin + ALIGNED
    return Axis(length, draw(st.integers(least, length)) if length > least else length, margin)


@given(axes())
def test_kept_parts_are_the_axis_and_extents_are_wider_by_the_margin(axis: Axis) -> None:
    tiles = axis.tiles
    assert [n for tile in tiles for n in range(*tile.kept)] == list(range(axis.length))
    assert max(tile.extent.stop - tile.extent.start for tile in tiles) == axis.size
    for tile in tiles:
        assert tile.extent.start % ALIGNED == 0
        assert 0 <= tile.extent.start <= max(0, tile.kept.start - axis.margin)
        assert tile.extent.start > tile.kept.start - axis.margin - ALIGNED
        assert tile.extent.stop == min(axis.length, tile.kept.stop + axis.margin)
    assert axis.computed == sum(stop - start for (start, stop), _ in tiles)


@given(st.integers(1, 150), st.integers(0, 20))
def test_cuts_have_the_smallest_tiles_of_their_number(length: int, margin: int) -> None:
    found = {len(axis.tiles): axis.size for axis in cuts(length, margin)}
    assert found[1] == length
    assert len(found) == len(cuts(length, margin))
    for size in range(2 * margin + ALIGNED, length):
        assert found[len(Axis(length, size, margin).tiles)] <= size


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 8))
def test_no_grid_is_worse_than_another_in_both(height: int, width: int, margin: int) -> None:
    found = list(grids(height, width, margin))
    assert found[0] == Tiling(Axis(height, height, margin), Axis(width, width, margin))
    assert found[0].count == 1
    assert found[0].largest == found[0].computed == height * width
    for one, other in itertools.pairwise(found):
        assert one.computed < other.computed
        assert one.largest > other.largest
    for rows in cuts(height, margin):
        for columns in cuts(width, margin):
            tiling = Tiling(rows, columns)
            assert any(t.computed <= tiling.computed and t.largest <= tiling.largest for t in found)


class Numbers:
    """A local graph in whole numbers, so that one wrong position anywhere shows: nothing rounds and nothing fades.

    At each of three resolutions a layer adds its own last input of the call before and mixes nine neighbours.
    """

    def __init__(self, role: str) -> None:
        self.role = role
        self.sizes: list[tuple[int, ...]] = []
        self.inputs = self.outputs = {}

    @property
    def entry(self) -> GraphEntry:
        video, small = Port("video", "float32", "N 1 T H W"), Port("small", "float32", f"N 1 T H/{S} W/{S}")
        data = (video, small) if self.role == "encoder" else (small, video)
        states = tuple(State(f"s{d}", f"new_s{d}", "float32", f"N 1 1 {_over(d)}", "zeros") for d in (1, 2, 4))
        count = State("count", "new_count", "float32", "1", "zeros")
        flags = (Port("odd", "bool", "1"),)
        return GraphEntry(
            self.role, "local", "fp32", ("cpu",), "", "", data[:1], data[1:], (*states, count), flags, (), 7
        )

    def run(self, inputs: Mapping[str, Any], into: Any = None, *, release: bool = False) -> dict[str, Any]:
        name, result = ("video", "small") if self.role == "encoder" else ("small", "video")
        x = inputs[name].astype(np.int64) + int(inputs["odd"][0]) + int(inputs["count"][0])
        self.sizes.append(x.shape[-2:])
        given = {"new_count": inputs["count"] + 1}
        for divisor in (1, 2, 4) if self.role == "encoder" else (4, 2, 1):
            if self.role == "encoder" and divisor > 1:
                x = sum((1 + i + 3 * j) * x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) % 251
            if self.role == "decoder" and divisor < 4:
                x = x.repeat(2, axis=-1).repeat(2, axis=-2)
            given[f"new_s{divisor}"] = x[:, :, -1:].astype(np.float32)
            before = np.concatenate([inputs[f"s{divisor}"].astype(np.int64), x[:, :, :-1]], axis=2)
            x = _mixed(x + 5 * before)
        given[result] = x.astype(np.float32)
        return {name: Held(value) if name.startswith("new") else value for name, value in given.items()}


class Held:
    """As values that an engine keeps."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def numpy(self) -> np.ndarray:
        return self.value

    def shape(self) -> tuple[int, ...]:
        return self.value.shape


def _over(divisor: int) -> str:
    return "H W" if divisor == 1 else f"H/{divisor} W/{divisor}"


def _mixed(x: np.ndarray) -> np.ndarray:
    height, width = x.shape[-2:]
    wide = np.pad(x, [(0, 0)] * 3 + [(1, 1)] * 2)
    return sum((2 + i + 5 * j) * wide[..., i : i + height, j : j + width] for i in range(3) for j in range(3)) % 251


def run(graph: Any, clip: np.ndarray, calls: Collection[int]) -> np.ndarray:
    results, start = [], 0
    for number, length in enumerate(calls):
        true = ["odd"] if number % 2 else []
        (result,) = graph.step(clip[:, :, start : start + length], true).values()
        results.append(np.array(result))
        start += length
    return np.concatenate(results, axis=2)


def whole(session: Numbers) -> StatefulGraph:
    return StatefulGraph(session.entry, Hosted(session))  # type: ignore[arg-type]


class Hosted:
    """The session, which takes back what it gave."""

    def __init__(self, session: Numbers) -> None:
        self.session = session

    def run(self, inputs: Mapping[str, Any], into: Any = None, *, release: bool = False) -> dict[str, Any]:
        return self.session.run({n: v.numpy() if isinstance(v, Held) else v for n, v in inputs.items()}, into)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_tiles_are_the_whole_frame(role: str, data: st.DataObject) -> None:
    session = Numbers(role)
    margin = margin_of(session.entry, S)
    assert margin == 2
    height, width = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 24))
    rows, columns = (data.draw(st.sampled_from(cuts(n, margin))) for n in (height, width))
    calls = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    scale = S if role == "encoder" else 1
    rng = np.random.default_rng(height * 25 + width)
    clip = rng.integers(0, 251, (1, 1, sum(calls), height * scale, width * scale)).astype(np.float32)
    tiled = TiledGraph(whole(session), Tiling(rows, columns), S)
    expected = run(whole(session), clip, calls)
    session.sizes.clear()
    np.testing.assert_array_equal(run(tiled, clip, calls), expected)
    assert len(session.sizes) == len(calls) * len(rows.tiles) * len(columns.tiles)
    assert max(h for h, _ in session.sizes) == rows.size * scale
    np.testing.assert_array_equal(run(tiled.fresh(), clip, calls), expected)  # nothing is left of the stream before


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_smaller_margin_shows(role: str) -> None:
    session = Numbers(role)
    clip = np.random.default_rng(0).integers(0, 251, (1, 1, 4, 24 * S, 24 * S)).astype(np.float32)
    expected = run(whole(session), clip, [2, 2])
    narrow = Tiling(Axis(24, 13, 0), Axis(24, 13, 0))
    wrong = run(TiledGraph(whole(session), narrow, S), clip, [2, 2]) != expected
    assert wrong.any()
    assert not wrong.all()


def test_graphs_are_cut_each_in_its_own_tiles() -> None:
    encoder, decoder = Numbers("encoder"), Numbers("decoder")
    clip = np.random.default_rng(0).integers(0, 251, (1, 1, 4, 24 * S, 20 * S)).astype(np.float32)
    frame = Tiling.whole(24, 20)
    (expected,) = GraphChain([whole(encoder), whole(decoder)], {}).step(clip).values()
    cut = Tiling(Axis(24, 12, 2), Axis(20, 12, 2))
    for tilings in ([frame, frame], [frame, cut], [cut, frame], [cut, Tiling(Axis(24, 10, 2), Axis(20, 20, 2))]):
        tiled = sparing(GraphChain([whole(encoder), whole(decoder)], {}), tilings, S)
        assert [isinstance(graph, TiledGraph) for graph in tiled.graphs] == [t.count > 1 for t in tilings]
        assert all(getattr(graph, "sparing", True) for graph in tiled.graphs)
        encoder.sizes.clear(), decoder.sizes.clear()
        np.testing.assert_array_equal(tiled.step(clip)["video"], expected)
        assert [len(encoder.sizes), len(decoder.sizes)] == [t.count for t in tilings]


def test_global_graphs_are_not_cut() -> None:
    entry = Numbers("encoder").entry
    assert margin_of(entry, S) == 2
    assert margin_of(GraphEntry(**{**vars(entry), "part": "global"}), S) is None


@pytest.mark.parametrize(
    "axes", ["N 1 T/4 H/3 W/3", "N 1 T/4 H/4 W/2", "N 1 T/4 W/4 H/4", "N 1 T/4 H/4", "N H/4 W/4 1"]
)
def test_what_has_no_whole_number_of_positions_a_latent_is_not_cut(axes: str) -> None:
    entry = Numbers("encoder").entry
    odd = State("odd", "new_odd", "float32", axes, "zeros")
    other = GraphEntry(**{**vars(entry), "states": (*entry.states, odd)})
    assert margin_of(other, S) is None
    assert margin_of(GraphEntry(**{**vars(entry), "outputs": (Port("y", "float32", axes),)}), S) is None
