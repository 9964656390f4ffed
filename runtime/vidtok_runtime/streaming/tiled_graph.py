"""A local graph run tile by tile over whole frames, with the result of one run on the whole frame.

What a tile computes within the margin of its border inside the frame is not what the whole frame would give, at any
time: it is thrown away, of outputs and of states. So states are right everywhere, and a frame has them once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.graph_entry import GraphEntry, shape_of, sizes_of
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.engines.stateful import StatefulGraph
from vidtok_runtime.streaming.tiles import Span, Tile, Tiling

Array = NDArray[Any]


def margin_of(chain: Sequence[GraphEntry], multiple: int) -> int | None:
    """Latents, of `multiple` pixels, that tiles compute beyond what they keep; None where no tiles are possible.

    Every local graph runs over the whole frame before the next one does, so the widest receptive field counts.
    """
    local = [graph for graph in chain if graph.part == "local"]
    if not local or not all(_can_be_cut(graph, multiple) for graph in local):
        return None
    return -(-max(graph.receptive_field for graph in local) // multiple)


def in_tiles(chain: GraphChain, tiling: Tiling, multiple: int) -> GraphChain:
    """The chain with its local graphs in tiles, if there are several; `multiple` pixels a latent."""
    if tiling.count == 1:
        return chain
    return chain.with_graphs(
        [
            TiledGraph(graph, tiling, multiple)
            if isinstance(graph, StatefulGraph) and graph.entry.part == "local"
            else graph
            for graph in chain.graphs
        ]
    )


class TiledGraph:
    """As StatefulGraph, in tiles."""

    def __init__(self, graph: StatefulGraph, tiling: Tiling, multiple: int) -> None:
        self.entry, self.session = graph.entry, graph.session
        self._graph = graph
        self._tiling = tiling
        self._multiple = multiple
        self._states: dict[str, _FrameState | _PlainState] | None = None

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
        if self._states is None:
            self._states = self._initial_states(x.shape)
        port = entry.inputs[0]
        sizes, scale = sizes_of(port.axes, x.shape), _scale(port.axes, self._multiple)
        outputs = {p.name: np.empty(shape_of(p.axes, sizes), p.dtype) for p in entry.outputs}
        rows, columns = self._tiling.rows.tiles, self._tiling.columns.tiles
        for i, j in self._tiling.turns:
            row, column = rows[i], columns[j]
            piece = np.ascontiguousarray(x[..., row.extent.at(scale), column.extent.at(scale)])
            results = self._graph.run(piece, true, {name: s.read(i, j) for name, s in self._states.items()})
            for p in entry.outputs:
                to = _scale(p.axes, self._multiple)
                outputs[p.name][..., row.kept.at(to), column.kept.at(to)] = _kept(results[p.name], row, column, to)
            for state in entry.states:
                self._states[state.input].write(results[state.output], i, j)
            self._graph.give_back(piece, {s.output: results[s.output] for s in entry.states})
        return outputs

    def _initial_states(self, shape: tuple[int, ...]) -> dict[str, _FrameState | _PlainState]:
        arrays = self._graph.initial_state(shape)
        scales = {s.input: _scale(s.axes, self._multiple) for s in self.entry.states}
        return {
            name: _FrameState(array, self._tiling, scales[name]) if scales[name] else _PlainState(array)
            for name, array in arrays.items()
        }


class _FrameState:
    """A state of whole frames, of which each tile reads its extent as the call before left it and writes its kept part.

    What a later tile still has to read is set aside before it is written over. Below, they take turns row by row; where
    they do it column by column, the axes are swapped.
    """

    def __init__(self, frame: Array, tiling: Tiling, scale: int) -> None:
        self._swapped = tiling.by_columns
        self._frame = self._turned(frame)
        axes = (tiling.columns, tiling.rows) if self._swapped else (tiling.rows, tiling.columns)
        self._rows, self._columns = (axis.tiles for axis in axes)
        self._scale = scale
        self._above = _Border(self._rows, scale, -2)
        self._left = _Border(self._columns, scale, -1)

    def _turned(self, array: Array) -> Array:
        return array.swapaxes(-1, -2) if self._swapped else array

    def _tile(self, i: int, j: int) -> tuple[int, int, Tile, Tile]:
        i, j = (j, i) if self._swapped else (i, j)
        return i, j, self._rows[i], self._columns[j]

    def read(self, i: int, j: int) -> Array:
        """What the tile in row i and column j takes."""
        i, j, row, column = self._tile(i, j)
        scale = self._scale
        if j == 0:
            self._above.enter(i, self._frame)
        self._left.enter(j, self._frame[..., row.kept.at(scale), :])
        value = self._frame[..., row.extent.at(scale), column.extent.at(scale)].copy("K")
        above, left = self._above.old[..., column.extent.at(scale)], self._left.old
        value[..., : above.shape[-2], :] = above
        value[..., row.kept.at(scale, row.extent.start), : left.shape[-1]] = left
        return self._turned(value)

    def write(self, value: Any, i: int, j: int) -> None:
        """What the tile in row i and column j gave."""
        _, _, row, column = self._tile(i, j)
        place = (..., row.kept.at(self._scale), column.kept.at(self._scale))
        self._frame[place] = _kept(self._turned(_on_host(value)), row, column, self._scale)


class _Border:
    """Along one axis, what a tile reads before its kept part, as it was before earlier tiles wrote there."""

    def __init__(self, tiles: Sequence[Tile], scale: int, axis: int) -> None:
        self._tiles = tiles
        self._scale = scale
        self._axis = axis
        self.old: Array
        self._next: Array

    def enter(self, index: int, frame: Array) -> None:
        """Turn to the next tile, before it writes, and set aside from `frame` what the one after it will need."""
        now = self._tiles[index]
        self.old = self._next if index else self._part(frame, slice(0))
        if index + 1 < len(self._tiles):
            then = self._tiles[index + 1].extent.start
            held = self._part(self.old, slice((then - now.extent.start) * self._scale, None))
            fresh = self._part(frame, Span(max(then, now.kept.start), now.kept.stop).at(self._scale))
            self._next = np.concatenate([held, fresh], axis=self._axis)

    def _part(self, array: Array, place: slice) -> Array:
        return array[..., place, :] if self._axis == -2 else array[..., place]


class _PlainState:
    """A state that does not depend on the place: every tile takes the same and gives the same."""

    def __init__(self, value: Array) -> None:
        self._old = self._new = value

    def read(self, i: int, j: int) -> Array:
        """What the call before left."""
        if i == j == 0:
            self._old = self._new
        return self._old

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
