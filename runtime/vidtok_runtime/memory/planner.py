"""Which chunk length and which tiles keep a stream within a limit of memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.manifest import Manifest, sizes_of_graphs
from vidtok_runtime.errors import InputError
from vidtok_runtime.memory.predict import GROWING, Counts, costs_of, format_memory, is_measured, predict
from vidtok_runtime.streaming.tiled_graph import margin_of
from vidtok_runtime.streaming.tiles import Tiling, grids


@dataclass(frozen=True)
class CallPlan:
    """How to cut a stream: latents a graph call, tiles of each role's graphs, bytes at the peak (None: not predicted).

    held: those of the peak that streams keep between two calls. growing: calls are as short as they can be, on an
    engine that would take more than they need.
    """

    chunk: int
    tiles: dict[str, tuple[Tiling, ...]]
    peak: int | None = None
    held: int = 0
    growing: bool = False

    @property
    def in_tiles(self) -> bool:
        """Whether any frames are cut."""
        return any(tiling.count > 1 for tilings in self.tiles.values() for tiling in tilings)

    @property
    def sparing(self) -> bool:
        """Whether graphs keep nothing that would only make the next call faster."""
        return self.in_tiles or self.growing


class _Choice(NamedTuple):
    """How the graphs of a role are cut, and what that takes."""

    tilings: tuple[Tiling, ...]
    counts: Counts
    computed: float  # what all tiles of all graphs compute, in the unit of `GraphEntry.work`


@dataclass(frozen=True)
class Planner:
    """What plans depend on: chains that run at the same time, the limit in bytes, chunk lengths that are allowed.

    free: the limit is what the machine has left. clips: side by side in a call.
    """

    manifest: Manifest
    chains: Mapping[str, Sequence[GraphEntry]]  # by role
    provider: str
    limit: int
    chunks: range
    free: bool = False
    clips: int = 1

    def choose(self, height: int, width: int) -> CallPlan:
        """The first plan that fits frames of `height` x `width` latents; raises InputError with what would fit.

        Whole frames come first, in calls from long to short, then tiles, from the least that has to be computed on.
        """
        plans = []
        for peak, plan in self._plans(height, width):
            if peak <= self.limit:
                return plan
            plans.append((peak, plan))
        _, least = min(plans, key=lambda found: found[0])
        multiple = self.manifest.stream.spatial_multiple
        whole = [
            f"its {role} cannot be cut into tiles"
            for role, chain in self.chains.items()
            if all(margin_of(graph, multiple) is None for graph in chain)
        ]
        raise InputError(
            f"{width * multiple}x{height * multiple} does not fit into {self._limit} with {self.provider}; it needs "
            f"{', '.join([self.text(least), *whole])}. {self._remedy(height, width)}"
        )

    def text(self, plan: CallPlan) -> str:
        """One line for people."""
        doubt = "" if is_measured(self.provider) else f" (unmeasured on {self.provider})"
        return f"{format_memory(plan.peak or 0)} at the peak{doubt}: {self._cut(plan)}"

    def why(self, plan: CallPlan) -> str:
        """One line for people about a plan that had to fit into what is free."""
        longest = self.chunks[-1] * self.manifest.stream.time_factor
        other = "whole frames" if plan.in_tiles else f"{longest}"
        return f"{self._cut(plan)}, since {other} would take more than {self._limit}"

    @property
    def _limit(self) -> str:
        return f"the {format_memory(self.limit)} that are free" if self.free else format_memory(self.limit)

    def _cut(self, plan: CallPlan) -> str:
        multiple = self.manifest.stream.spatial_multiple
        parts = [f"calls of {plan.chunk * self.manifest.stream.time_factor} frames"]
        for role, tilings in plan.tiles.items():
            cut = [
                f"{len(columns.tiles)}x{len(rows.tiles)} tiles of {columns.size * multiple}x{rows.size * multiple}"
                for rows, columns in ((tiling.rows, tiling.columns) for tiling in tilings if tiling.count > 1)
            ]
            if cut:
                parts.append(f"{role} in {' and '.join(cut)}")
        return ", ".join(parts)

    def _remedy(self, height: int, width: int) -> str:
        """What to do: the largest size of this shape that fits."""
        short = min(height, width)

        def fits(side: int) -> bool:
            plans = self._plans(-(-height * side // short), -(-width * side // short))
            return any(peak <= self.limit for peak, _ in plans)

        side = bisect_left(range(1, short), True, key=lambda side: not fits(side))
        if side == 0:
            return f"{format_memory(self.limit)} are too little for any size of this shape"
        return f"Allow more memory, or resize the shorter side to {side * self.manifest.stream.spatial_multiple}"

    def _plans(self, height: int, width: int) -> Iterator[tuple[int, CallPlan]]:
        """What can be done, best first, and bytes at the peak."""
        whole = {role: (Tiling.whole(height, width),) * len(chain) for role, chain in self.chains.items()}
        for chunk in reversed(self.chunks):
            yield self._plan(chunk, {role: self._choice(role, tilings, chunk) for role, tilings in whole.items()})
        choices = product(*(self._choices(role, height, width) for role in self.chains))
        for choice in sorted(choices, key=lambda choice: sum(one.computed for one in choice)):
            yield self._plan(self.chunks[0], dict(zip(self.chains, choice, strict=True)))

    def _plan(self, chunk: int, chosen: Mapping[str, _Choice]) -> tuple[int, CallPlan]:
        peak = predict(self.provider, {role: one.counts for role, one in chosen.items()})
        tiles = {role: one.tilings for role, one in chosen.items()}
        growing = self.provider in GROWING and chunk == self.chunks[0] < self.chunks[-1]
        return peak, CallPlan(chunk, tiles, peak, sum(one.counts.held for one in chosen.values()), growing)

    def _choices(self, role: str, height: int, width: int) -> Iterator[_Choice]:
        """From whole frames on, each time with smaller tiles of a graph: where they save most for what they compute."""
        multiple, costs = self.manifest.stream.spatial_multiple, costs_of(self.provider, role)
        chain, ways = self.chains[role], []
        for graph in chain:
            margin = margin_of(graph, multiple)
            ways.append([Tiling.whole(height, width)] if margin is None else list(grids(height, width, margin)))
        while True:
            choice = self._choice(role, tuple(tilings[0] for tilings in ways), self.chunks[0])
            yield choice
            worth = {}
            for i, (graph, call, tilings) in enumerate(zip(chain, choice.counts.calls, ways, strict=True)):
                if len(tilings) > 1:
                    now, then = tilings[:2]
                    saved = call.peak(costs) * (now.largest - then.largest) / now.largest
                    worth[i] = saved / (graph.work * (then.computed - now.computed))
            if not worth:
                return
            del ways[max(worth, key=worth.__getitem__)][0]

    def _choice(self, role: str, tilings: tuple[Tiling, ...], chunk: int) -> _Choice:
        chain, weights = self.chains[role], self._weights[role]
        counts = Counts.of(self.manifest, chain, tilings, chunk, weights, self.clips)
        return _Choice(tilings, counts, sum(g.work * t.computed for g, t in zip(chain, tilings, strict=True)))

    @cached_property
    def _weights(self) -> dict[str, tuple[int, ...]]:
        return {role: sizes_of_graphs(self.manifest, chain) for role, chain in self.chains.items()}
