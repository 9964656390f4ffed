"""The plans of one tokenizer: how streams of each size are cut, chosen once and said once."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vidtok_runtime.bundle.graph_entry import GraphEntry
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.bundle.stream_spec import CallSpec, StreamSpec
from vidtok_runtime.memory.planner import CallPlan, Planner
from vidtok_runtime.memory.predict import affordable, tells_stages
from vidtok_runtime.streaming.geometry import padded_size
from vidtok_runtime.streaming.tiles import Tiling


class Plans:
    """Chooses plans within a limit of bytes or, without one, within what is free at the first question.

    entries: of a role, its graphs. available: bytes that stand in for what is free, None where it is to be looked up.
    """

    def __init__(
        self, manifest: Manifest, provider: str, limit: int | None, entries: Callable[[str], Sequence[GraphEntry]]
    ) -> None:
        self._manifest = manifest
        self._provider = provider
        self._limit = limit
        self._entries = entries
        self.available: int | None = None
        self._plans: dict[object, CallPlan] = {}
        self._told = False

    def plan(
        self, roles: tuple[str, ...], role: str, stream: StreamSpec, height: int, width: int, clips: int = 1
    ) -> CallPlan:
        """The plan of one role while streams of several run, for frames in pixels; raises InputError."""
        multiple = stream.spatial_multiple
        tall, wide = padded_size(height, width, stream.side_multiple, square=stream.square)
        size, chunks = (tall // multiple, wide // multiple), _chunks(stream, role)
        key = (size, chunks, roles, clips)
        if key not in self._plans:
            self._plans[key] = self._choose({r: self._entries(r) for r in roles}, chunks, *size, clips)
        return self._plans[key]

    def _choose(
        self, chains: Mapping[str, Sequence[GraphEntry]], chunks: range, height: int, width: int, clips: int
    ) -> CallPlan:
        """The plan for frames of a size in latents, and a line about it."""
        if self._limit is not None:
            planner = Planner(self._manifest, chains, self._provider, self._limit, chunks, clips=clips)
            plan = planner.choose(height, width)
            print(f"vidtok: {planner.text(plan)}", file=sys.stderr)
            return plan
        if self.available is None:
            self.available = affordable(self._provider)
        whole = Tiling.whole(height, width)
        longest = CallPlan(chunks[-1], {role: (whole,) * len(chain) for role, chain in chains.items()})
        if self.available is None or not all(map(tells_stages, chains.values())):
            return longest
        planner = Planner(self._manifest, chains, self._provider, self.available, chunks, free=True, clips=clips)
        plan = planner.choose(height, width)
        if (plan.in_tiles or plan.chunk < longest.chunk) and not self._told:
            print(f"vidtok: {planner.why(plan)}", file=sys.stderr)
            self._told = True
        return plan

    def fit_together(self, plans: Sequence[CallPlan]) -> bool:
        """Whether streams of these plans fit that take turns: one is in a call, the others keep what they hold."""
        limit = self.available if self._limit is None else self._limit
        held = sum(plan.held for plan in plans)
        return limit is None or all(plan.peak is None or plan.peak + held - plan.held <= limit for plan in plans)


def shortened(stream: StreamSpec, role: str, chunk: int) -> CallSpec:
    """The calls of a role in at most so many latents each, where they may be cut."""
    calls = stream.calls(role)
    if calls.max is None or calls.exact:
        return calls
    return replace(calls, max=min(calls.max, chunk * _unit(stream, role)))


def _unit(stream: StreamSpec, role: str) -> int:
    """Frames or latents, whichever the calls of a role are counted in, of a latent."""
    return stream.time_factor if role == "encoder" else 1


def _chunks(stream: StreamSpec, role: str) -> range:
    """Latents that a call may have."""
    calls, unit = stream.calls(role), _unit(stream, role)
    longest = stream.groups.latents if calls.max is None and stream.groups else -(-(calls.max or 1) // unit)
    step = calls.multiple // math.gcd(calls.multiple, unit)
    if calls.max is None or calls.exact or step > longest:  # what cannot be cut
        return range(longest, longest + 1)
    return range(step, longest + 1, step)
