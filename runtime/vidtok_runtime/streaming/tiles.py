"""The geometry of tiles: what each of them reads, and the part of it that is right. All numbers count latents.

docs/format.md has the rule for other runtimes, and `tests/conformance/kit/tiles.json` a table to test it with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

# Tiles begin at multiples of it: Winograd computes rows in groups of four, from the first that it sees.
ALIGNED = 4


class Span(NamedTuple):
    """Latents from `start` to before `stop`."""

    start: int
    stop: int

    def at(self, scale: int, start: int = 0) -> slice:
        """Its place in an array with `scale` positions a latent that begins at the latent `start`."""
        return slice((self.start - start) * scale, (self.stop - start) * scale)


class Tile(NamedTuple):
    """Along one axis: what a tile computes (`extent`), and the part of it that is taken (`kept`)."""

    extent: Span
    kept: Span


@dataclass(frozen=True)
class Axis:
    """Tiles along an axis of a frame. Each keeps what it computes, less a `margin` where the frame goes on.

    size: the largest extent: `length`, or twice the margin and ALIGNED at least.
    """

    length: int
    size: int
    margin: int

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """In order; the kept parts cover the axis, each latent once."""
        found, start, kept = [], 0, 0
        while kept < self.length:
            stop = min(start + self.size, self.length)
            end = stop if stop == self.length else stop - self.margin
            found.append(Tile(Span(start, stop), Span(kept, end)))
            kept = end
            start = (kept - self.margin) // ALIGNED * ALIGNED
        return tuple(found)

    @cached_property
    def overlap(self) -> int:
        """The most latents in front of what it keeps that a tile computes."""
        return max(tile.kept.start - tile.extent.start for tile in self.tiles)

    @cached_property
    def kept(self) -> int:
        """The most latents that a tile keeps."""
        return max(tile.kept.stop - tile.kept.start for tile in self.tiles)

    @cached_property
    def computed(self) -> int:
        """Latents that the tiles compute in all."""
        return sum(tile.extent.stop - tile.extent.start for tile in self.tiles)


def cuts(length: int, margin: int) -> list[Axis]:
    """Of every possible number of tiles the axis whose largest is smallest; the whole axis first."""
    found = {1: Axis(length, length, margin)}
    for size in range(length - 1, 2 * margin + ALIGNED - 1, -1):
        axis = Axis(length, size, margin)
        found[len(axis.tiles)] = axis
    return list(found.values())


@dataclass(frozen=True)
class Tiling:
    """Tiles of a frame, along H and along W."""

    rows: Axis
    columns: Axis

    @classmethod
    def whole(cls, height: int, width: int) -> Tiling:
        """One tile, which is the frame."""
        return cls(Axis(height, height, 0), Axis(width, width, 0))

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows.tiles) * len(self.columns.tiles)

    @property
    def by_columns(self) -> bool:
        """Whether tiles take turns column by column, not row by row: whatever takes less room."""
        return _beside(self.columns, self.rows) < _beside(self.rows, self.columns)

    @property
    def beside(self) -> float:
        """What tiles need beside an array of whole frames that they write into, as a share of it."""
        return min(_beside(self.columns, self.rows), _beside(self.rows, self.columns))

    @property
    def largest(self) -> int:
        """Latents that the largest tile computes."""
        return self.rows.size * self.columns.size

    @property
    def computed(self) -> int:
        """Latents that all tiles compute."""
        return self.rows.computed * self.columns.computed


def _beside(outer: Axis, inner: Axis) -> float:
    """Where tiles take turns along `inner` first: room along `outer`, and a strip along `inner`; as a share."""
    return (outer.overlap + inner.overlap / inner.length * outer.kept) / outer.length


def grids(height: int, width: int, margin: int) -> Iterator[Tiling]:
    """The tilings that are worth a look, the whole frame first: every later one computes more, in smaller tiles."""
    smallest = height * width + 1
    every = (Tiling(rows, columns) for rows, columns in product(cuts(height, margin), cuts(width, margin)))
    for tiling in sorted(every, key=lambda t: (t.computed, t.largest)):
        if tiling.largest < smallest:
            smallest = tiling.largest
            yield tiling
