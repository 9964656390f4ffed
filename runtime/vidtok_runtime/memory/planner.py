"""Which chunk length and which tiles keep a stream within a limit of memory."""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import BundleError, InputError
from vidtok_runtime.memory.predict import format_memory, predict
from vidtok_runtime.streaming.tiles import Tiling


@dataclass(frozen=True)
class CallPlan:
    """How to cut a stream: latents a graph call, tiles of each role, bytes at the peak (None: not predicted)."""

    chunk: int
    tiles: dict[str, Tiling]
    peak: int | None = None

    def text(self, manifest: Manifest) -> str:
        """One line for people."""
        parts = [f"calls of {self.chunk * manifest.stream.time_factor} frames"]
        for role, tiles in self.tiles.items():
            if tiles.count > 1:
                rows, columns, multiple = tiles.rows, tiles.columns, manifest.stream.spatial_multiple
                parts.append(
                    f"{role} in {len(columns.starts)}x{len(rows.starts)} tiles of "
                    f"{columns.size * multiple}x{rows.size * multiple}"
                )
        return f"{format_memory(self.peak or 0)} at the peak: {', '.join(parts)}"


@dataclass(frozen=True)
class Planner:
    """What plans depend on: chains that run at the same time, the limit in bytes, chunk lengths that are allowed."""

    manifest: Manifest
    chains: Mapping[str, Sequence[GraphEntry]]  # by role
    provider: str
    limit: int
    chunks: range

    def shorten(self, height: int, width: int) -> CallPlan:
        """The longest calls that fit, of whole frames of `height` x `width` latents; the shortest if none do.

        As long as allowed where the graphs tell no stages.
        """
        whole = {role: Tiling.of(height, width) for role in self.chains}
        plan = CallPlan(self.chunks[-1], whole)
        with contextlib.suppress(BundleError):
            for chunk in reversed(self.chunks):
                plan = self._plan(whole, chunk)
                if self._fits(plan):
                    break
        return plan

    def why(self, plan: CallPlan) -> str:
        """One line for people about a plan that `shorten` made."""
        f = self.manifest.stream.time_factor
        text = (
            f"calls of {plan.chunk * f} frames, since {self.chunks[-1] * f} would take more than the "
            f"{format_memory(self.limit)} that are free"
        )
        return text if self._fits(plan) else f"{text}, as these may, too; --max-memory cuts frames into tiles"

    def choose(self, height: int, width: int) -> CallPlan:
        """The first plan that fits frames of `height` x `width` latents; raises InputError with what would fit.

        Shorter calls change no result and come first, tiles next: the largest that fit.
        """
        plans = []
        for plan in self._plans(height, width):
            plans.append(plan)
            if self._fits(plan):
                return plan
        least = min(plans, key=lambda plan: plan.peak or 0)
        multiple = self.manifest.stream.spatial_multiple
        raise InputError(
            f"{width * multiple}x{height * multiple} does not fit into {format_memory(self.limit)} with "
            f"{self.provider}; it needs {least.text(self.manifest)}{self._smaller(height, width)}"
        )

    def _fits(self, plan: CallPlan) -> bool:
        return plan.peak is not None and plan.peak <= self.limit

    def _smaller(self, height: int, width: int) -> str:
        """What to do: the largest size of this shape that fits."""
        short = min(height, width)

        def fits(side: int) -> bool:
            return any(map(self._fits, self._plans(-(-height * side // short), -(-width * side // short))))

        side = bisect_left(range(1, short), True, key=lambda side: not fits(side))
        if side == 0:
            return f". {format_memory(self.limit)} are too little for any size"
        return f". Raise the limit, or resize the shorter side to {side * self.manifest.stream.spatial_multiple}"

    def _plans(self, height: int, width: int) -> Iterator[CallPlan]:
        for index, tiles in enumerate(self._grids(height, width)):
            for chunk in reversed(self.chunks) if index == 0 else self.chunks[:1]:
                yield self._plan(tiles, chunk)

    def _plan(self, tiles: dict[str, Tiling], chunk: int) -> CallPlan:
        return CallPlan(chunk, tiles, predict(self.manifest, self.chains, self.provider, tiles, chunk))

    def _grids(self, height: int, width: int) -> Iterator[dict[str, Tiling]]:
        """Whole frames, then ever smaller tiles: of each number of tiles the smallest that overlap enough."""
        overlaps = {role: overlap_of(self.manifest, chain) for role, chain in self.chains.items()}
        yield {role: Tiling.of(height, width) for role in overlaps}
        found = {}
        for side in range(max(height, width) - 1, 2 * max(overlaps.values()) - 1, -1):
            tiles = {role: Tiling.of(height, width, side, overlap) for role, overlap in overlaps.items()}
            found[tuple(t.count for t in tiles.values())] = tiles
        yield from found.values()


def overlap_of(manifest: Manifest, chain: Sequence[GraphEntry]) -> int:
    """Latents that the graphs of a chain look at on either side of one, attention left out."""
    return -(-sum(graph.receptive_field for graph in chain) // manifest.stream.spatial_multiple)
