"""From a stream to graph calls: cut along time, drop what is surplus in front, flush what waits at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import CallRule
from vidtok_runtime.engines.stateful import StatefulGraph

Array = NDArray[Any]
_TIME = -3  # of `N C T H W` as of `N T H W`


class Calls:
    """One stream through a graph, in the layout of the graph; time is the third axis from the end.

    `push` takes any length and gives the outputs that are complete, one array a call; `finish` the rest.
    """

    def __init__(self, graph: StatefulGraph, rule: CallRule) -> None:
        self._graph = graph
        self._rule = rule
        self.most = rule.most
        self._first = rule.first
        self._to_drop = rule.drop
        self._waiting: Array | None = None
        self._newest: Array | None = None

    def push(self, x: Array) -> list[Array]:
        """Add `x` behind what waits and run every call that is full."""
        if self._waiting is not None:
            x = np.concatenate([self._waiting, x], axis=_TIME)
        out, start, length = [], 0, x.shape[_TIME]
        while size := self._next_size(length - start):
            out.append(self._run(x[..., start : start + size, :, :]))
            start += size
            self._first = None
        self._waiting = x[..., start:, :, :].copy()
        return out

    def finish(self) -> list[Array]:
        """Run what still waits as a shorter call, then the flush call, if there is one."""
        out = []
        if self._waiting is not None and self._waiting.shape[_TIME]:
            out.append(self._run(self._waiting))
        if self._rule.flush and self._newest is not None:
            dummies = self._newest.repeat(self._rule.flush, axis=_TIME)
            out.append(self._run(dummies, flush=True))
        return out

    def _next_size(self, ready: int) -> int:
        if self._first is not None:
            return self._first if ready >= self._first else 0
        return min(self._rule.most, ready - ready % self._rule.multiple)

    def _run(self, x: Array, *, flush: bool = False) -> Array:
        self._newest = x[..., -1:, :, :].copy() if self._rule.flush else None
        y = self._graph.step(np.ascontiguousarray(x), flush=flush)[self._graph.entry.outputs[0].name]
        if flush:
            y = y[..., : self._rule.keep, :, :]
        drop = min(self._to_drop, y.shape[_TIME])
        self._to_drop -= drop
        return y[..., drop:, :, :]
