"""Spatial tiles: every tile is a stream of its own with its own state; their outputs are put together, blended.

The middle of the network attends to all positions of a frame, so a tile never gives exactly what the whole frame
would have given; docs/memory.md has the difference that was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.stream_spec import CallSpec
from vidtok_runtime.engines.chain import GraphChain
from vidtok_runtime.streaming.graph_calls import Calls

Array = NDArray[Any]


@dataclass(frozen=True)
class Axis:
    """Tiles of one size along one axis, counted in latents: the fewest that overlap by `overlap` or more."""

    length: int
    tile: int
    overlap: int

    @cached_property
    def starts(self) -> list[int]:
        """Where the tiles begin; the first at 0, the last ends with the axis."""
        if self.tile >= self.length:
            return [0]
        count = -(-(self.length - self.overlap) // (self.tile - self.overlap))
        return [i * (self.length - self.tile) // (count - 1) for i in range(count)]

    @property
    def size(self) -> int:
        """Latents a tile covers."""
        return min(self.tile, self.length)

    def kept(self) -> list[slice]:
        """The part of the axis that comes from each tile: neighbours meet in the middle of their overlap."""
        middles = [(a + self.size + b) // 2 for a, b in zip(self.starts, self.starts[1:], strict=False)]
        return [slice(a, b) for a, b in zip([0, *middles], [*middles, self.length], strict=True)]

    def weights(self, scale: int) -> list[NDArray[np.float32]]:
        """Shares of each tile at its own positions, `scale` to a latent: they fall off towards its inner edges.

        Together the shares of all tiles are 1 everywhere.
        """
        place = np.arange(self.size * scale, dtype=np.float32)
        fall = max(self.overlap * scale, 1)
        total = np.zeros(self.length * scale, np.float32)
        shares = []
        for start in self.starts:
            share = np.ones_like(place)
            if start > 0:
                share = np.minimum(share, (place + 0.5) / fall)
            if start + self.size < self.length:
                share = np.minimum(share, (place[::-1] + 0.5) / fall)
            shares.append(share)
            total[start * scale : start * scale + len(place)] += share
        return [w / total[s * scale : s * scale + len(w)] for s, w in zip(self.starts, shares, strict=True)]


@dataclass(frozen=True)
class Tiling:
    """Tiles of a frame, along H and along W."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, height: int, width: int, side: int | None = None, overlap: int = 0) -> Tiling:
        """Square tiles of a side (None: one tile, the frame) for frames of a size; all in latents."""
        return cls(*(Axis(length, length if side is None else side, overlap) for length in (height, width)))

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)


class TiledCalls:
    """`Calls` for every tile; each tile keeps its own state. The last two axes are H and W.

    Latents and tokens are taken from the inside of the tiles, frames (`multiple` pixels a latent) are blended.
    """

    def __init__(
        self,
        chain: GraphChain,
        spec: CallSpec,
        tiles: Tiling,
        multiple: int,
        group: int | None = None,
        beside: str | None = None,
    ) -> None:
        self._tiles = tiles
        encodes = chain.role == "encoder"
        self._scale_in, self._scale_out = (multiple, 1) if encodes else (1, multiple)
        self._place = self._keep if encodes else self._blend
        self._calls = {
            (i, j): Calls(chain.fresh(), spec, group, beside)
            for i in range(len(tiles.rows.starts))
            for j in range(len(tiles.columns.starts))
        }
        self.longest = self._calls[0, 0].longest
        self._kept = tiles.rows.kept(), tiles.columns.kept()
        self._weights = tiles.rows.weights(self._scale_out), tiles.columns.weights(self._scale_out)

    def push(self, x: Array) -> list[Array]:
        """As `Calls.push`, for whole frames."""
        return self._gather(lambda calls, rows, columns: calls.push(x[..., rows, columns]))

    def finish(self) -> list[Array]:
        """As `Calls.finish`."""
        return self._gather(lambda calls, rows, columns: calls.finish())

    def _gather(self, run: Callable[[Calls, slice, slice], list[Array]]) -> list[Array]:
        out: list[Array] = []
        for (i, j), calls in self._calls.items():
            for k, y in enumerate(run(calls, *self._extent(i, j, self._scale_in))):
                if k == len(out):
                    size = (self._tiles.rows.length, self._tiles.columns.length)
                    out.append(np.zeros((*y.shape[:-2], *(n * self._scale_out for n in size)), y.dtype))
                self._place(out[k], y, i, j)
        return out

    def _extent(self, i: int, j: int, scale: int) -> tuple[slice, slice]:
        rows, columns = self._tiles.rows, self._tiles.columns
        top, left = rows.starts[i] * scale, columns.starts[j] * scale
        return slice(top, top + rows.size * scale), slice(left, left + columns.size * scale)

    def _keep(self, out: Array, y: Array, i: int, j: int) -> None:
        rows, columns = self._kept[0][i], self._kept[1][j]
        top, left = self._tiles.rows.starts[i], self._tiles.columns.starts[j]
        out[..., rows, columns] = y[..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def _blend(self, out: Array, y: Array, i: int, j: int) -> None:
        weights = self._weights[0][i][:, None] * self._weights[1][j]
        out[(..., *self._extent(i, j, self._scale_out))] += y * weights


def make_calls(
    chain: GraphChain,
    spec: CallSpec,
    tiles: Tiling,
    multiple: int,
    group: int | None = None,
    beside: str | None = None,
) -> Calls | TiledCalls:
    """One stream through a chain, in tiles if there are several; the rest as `Calls` takes it."""
    if tiles.count == 1:
        return Calls(chain, spec, group, beside)
    return TiledCalls(chain, spec, tiles, multiple, group, beside)
