"""A local graph run tile by tile over whole frames, with the result of one run on the whole frame.

What a tile computes within the margin of its border inside the frame is not what the whole frame would give, at any
time: it is thrown away, of outputs and of states. So states are right everywhere, and a frame has them once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.graph_entry import GraphEntry, shape_of, sizes_of
from vidtok_runtime.engines.chain import GraphChain, GraphStream
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.streaming.tiles import Axis, Span, Tile, Tiling

Array = NDArray[Any]


def margin_of(graph: GraphEntry, multiple: int) -> int | None:
    """Latents, of `multiple` pixels, that tiles compute beyond what they keep; None where no tiles are possible."""
    if graph.part != "local" or not _can_be_cut(graph, multiple):
        return None
    return -(-graph.receptive_field // multiple)


def sparing(chain: GraphChain, tilings: Sequence[Tiling], multiple: int) -> GraphChain:
    """The chain for where memory is short: its graphs keep none from call to call but their states.

    Each runs in tiles of its own, where there are several, over the whole frame before the next one does; `multiple`
    pixels a latent.
    """
    graphs: list[GraphStream] = []
    for graph, tiling in zip(chain.graphs, tilings, strict=True):
        assert isinstance(graph, StatefulGraph)
        graph.sparing = True
        graphs.append(graph if tiling.count == 1 else TiledGraph(graph, tiling, multiple))
    return chain.with_graphs(graphs)


class TiledGraph:
    """As StatefulGraph, in tiles."""

    def __init__(self, graph: StatefulGraph, tiling: Tiling, multiple: int) -> None:
        self.entry, self.session = graph.entry, graph.session
        self._graph = graph
        self._tiling = tiling
        self._multiple = multiple
        self._states: dict[str, _FrameState | _PlainState] | None = None
        self._ahead = False  # whether the last call ran its tiles from the first to the last

    def fresh(self) -> TiledGraph:
        """Another stream through the same loaded graph, in the same tiles."""
        return TiledGraph(self._graph.fresh(), self._tiling, self._multiple)

    @property
    def in_use(self) -> bool:
        """Whether a stream that `fresh` gave is still there."""
        return self._graph.in_use

    def step(self, x: Any, true: Collection[str] = ()) -> dict[str, Array]:
        """As `StatefulGraph.step`, for whole frames."""
        entry, x = self.entry, _on_host(x)
        states = self._states = self._states or self._initial_states(x.shape)
        self._ahead = not self._ahead
        for state in states.values():
            state.turn()
        sizes = sizes_of(entry.inputs[0].axes, x.shape)
        outputs = {p.name: np.empty(shape_of(p.axes, sizes), p.dtype) for p in entry.outputs}
        for number, place in enumerate(self._turns(), 1):
            # What only makes the next tile faster is not kept for the next call.
            self._run_tile(place, x, true, states, outputs, release=number == self._tiling.count)
        return outputs

    def _run_tile(
        self,
        place: tuple[int, int],
        x: Array,
        true: Collection[str],
        states: Mapping[str, _FrameState | _PlainState],
        outputs: Mapping[str, Array],
        *,
        release: bool,
    ) -> None:
        """Take a tile out of data and states, and put what is right of its results into outputs and states."""
        entry = self.entry
        row, column = (axis.tiles[i] for axis, i in zip(self._axes, place, strict=True))
        scale = _scale(entry.inputs[0].axes, self._multiple)
        piece = np.ascontiguousarray(x[..., row.extent.at(scale), column.extent.at(scale)])
        before = {name: state.read(*place) for name, state in states.items()}
        into = {s.output: before[s.input] for s in entry.states}
        results = self._graph.run(piece, true, before, into, release=release)
        for p in entry.outputs:
            to = _scale(p.axes, self._multiple)
            outputs[p.name][..., row.kept.at(to), column.kept.at(to)] = _kept(results[p.name], row, column, to)
        for s in entry.states:
            states[s.input].write(results[s.output], *place)

    @property
    def _axes(self) -> tuple[Axis, Axis]:
        return self._tiling.rows, self._tiling.columns

    def _turns(self) -> Iterator[tuple[int, int]]:
        """Numbers along H and along W of the tiles, in the order in which they run."""
        rows, columns = (range(len(axis.tiles)) for axis in self._axes)
        if self._tiling.by_columns:
            return ((i, j) for j in (columns if self._ahead else reversed(columns)) for i in rows)
        return ((i, j) for i in (rows if self._ahead else reversed(rows)) for j in columns)

    def _initial_states(self, shape: tuple[int, ...]) -> dict[str, _FrameState | _PlainState]:
        outer = -1 if self._tiling.by_columns else -2
        roomy = list(shape)
        roomy[outer] += self._axes[outer].overlap * _scale(self.entry.inputs[0].axes, self._multiple)
        arrays = self._graph.initial_state(tuple(roomy))
        scales = {s.input: _scale(s.axes, self._multiple) for s in self.entry.states}
        return {
            name: _FrameState(array, self._tiling, scales[name]) if scales[name] else _PlainState(array)
            for name, array in arrays.items()
        }


class _FrameState:
    """A state of whole frames, of which each tile reads its extent as the call before left it and writes its kept part.

    Rows of tiles (columns, where tiling says so) take turns from the first to the last in one call, from the last to
    the first in the next. The array has more rows than the frame, and what is written lies so much before or behind
    what is read that no other row of tiles misses what it is written over. Of what the next tile of the same row
    misses, a strip is set aside.
    """

    def __init__(self, room: Array, tiling: Tiling, scale: int) -> None:
        self._swapped = tiling.by_columns
        self._room = self._turned(room)
        outer, inner = (tiling.columns, tiling.rows) if self._swapped else (tiling.rows, tiling.columns)
        self._rows, self._columns = outer.tiles, inner.tiles
        self._scale = scale
        self._strip: Array = self._room[..., :0, :0]
        self._old, self._new = 0, outer.overlap  # latents in front of the frame that is read, and that is written

    def _turned(self, array: Array) -> Array:
        return array.swapaxes(-1, -2) if self._swapped else array

    def _tile(self, i: int, j: int) -> tuple[int, Tile, Tile]:
        i, j = (j, i) if self._swapped else (i, j)
        return j, self._rows[i], self._columns[j]

    def turn(self) -> None:
        """Begin a call; what the one before wrote is read now."""
        self._old, self._new = self._new, self._old

    def read(self, i: int, j: int) -> Array:
        """What the tile in row i and column j takes."""
        j, row, column = self._tile(i, j)
        value = self._room[..., row.extent.at(self._scale, -self._old), column.extent.at(self._scale)].copy("K")
        # What the tiles of this row write over, as they see it.
        shift = self._new - self._old
        lost = Span(*(min(max(n + shift, row.extent.start), row.extent.stop) for n in row.kept))
        rows = lost.at(self._scale, row.extent.start)
        if j > 0:
            value[..., rows, : self._strip.shape[-1]] = self._strip
        if j + 1 < len(self._columns):
            then = Span(self._columns[j + 1].extent.start, column.kept.stop)
            self._strip = value[..., rows, then.at(self._scale, column.extent.start)].copy("K")
        return self._turned(value)

    def write(self, value: Any, i: int, j: int) -> None:
        """What the tile in row i and column j gave."""
        _, row, column = self._tile(i, j)
        place = (..., row.kept.at(self._scale, -self._new), column.kept.at(self._scale))
        self._room[place] = _kept(self._turned(_on_host(value)), row, column, self._scale)


class _PlainState:
    """A state that does not depend on the place: every tile takes the same and gives the same."""

    def __init__(self, value: Array) -> None:
        self._old = self._new = value

    def turn(self) -> None:
        """Begin a call."""
        self._old = self._new

    def read(self, i: int, j: int) -> Array:
        """What the call before left."""
        return self._old.copy()

    def write(self, value: Any, i: int, j: int) -> None:
        """For the next call."""
        self._new = _on_host(value).copy()


def _kept(value: Any, row: Tile, column: Tile, scale: int) -> Array:
    """The part of a tile's result that is right."""
    part: Array = _on_host(value)[..., row.kept.at(scale, row.extent.start), column.kept.at(scale, column.extent.start)]
    return part


def _on_host(value: Any) -> Array:
    """An array of what an engine may keep on a device."""
    array: Array = value if isinstance(value, np.ndarray) else value.numpy()
    return array


def _can_be_cut(graph: GraphEntry, multiple: int) -> bool:
    """Whether a latent is a whole number of positions of all that the graph takes, gives and keeps."""
    data = [*graph.inputs, *graph.outputs]
    return all(_scale(port.axes, multiple) for port in data) and all(
        _scale(state.axes, multiple) or not set("HW") & set(state.axes) for state in graph.states
    )


def _scale(axes: str, multiple: int) -> int:
    """Positions a latent along H and W, which are the last axes; 0 where they are not or it is no whole number."""
    match = re.fullmatch(r"[^HW]*H((?:/\d+)?) W\1", axes)
    if match is None:
        return 0
    scale, rest = divmod(multiple, int(match[1][1:] or 1))
    return 0 if rest else scale
