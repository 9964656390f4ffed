"""From a stream to calls of a chain: cut along time, drop what is surplus in front, flush what waits at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.stream_spec import CallSpec, Flush
from vidtok_runtime.engines.chain import GraphChain

Array = NDArray[Any]
_TIME = -3  # of `N C T H W` as of `N T H W`
_CHANNELS = 1


class Calls:
    """One stream through a chain, in the layout of its graphs; time is the third axis from the end.

    group: length of the longest stream, where `spec.max` is None. beside: output to give behind the channels of the
    first. `push` takes any length and gives the outputs that are complete, one array a call; `finish` the rest.
    """

    def __init__(self, chain: GraphChain, spec: CallSpec, group: int | None = None, beside: str | None = None) -> None:
        assert isinstance(spec.drop, int), "what is surplus depends on the stream"
        self._chain = chain
        self._spec = spec
        self._beside = beside
        self._first = spec.first
        self._to_drop = spec.drop
        if spec.max is not None:
            self.longest = spec.max
        else:
            assert group is not None
            whole = group - (spec.first or 0)
            self.longest = max(spec.multiple, whole - whole % spec.multiple)
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
        self._waiting = x[..., start:, :, :].copy() if start < length else None
        return out

    def finish(self) -> list[Array]:
        """Run what still waits, then the flush call, if there is one."""
        out, start = [], 0
        if (x := self._waiting) is not None:
            for size in replace(self._spec, first=self._first).sizes(x.shape[_TIME]):
                out.append(self._run(x[..., start : start + size, :, :]))
                start += size
        if self._spec.flush and self._newest is not None:
            dummies = self._newest.repeat(self._spec.flush.size, axis=_TIME)
            out.append(self._run(dummies, flush=self._spec.flush))
        return out

    def _next_size(self, ready: int) -> int:
        if self._first is not None:
            return self._first if ready >= self._first else 0
        if self._spec.exact or self._spec.max is None:
            return self.longest if ready >= self.longest else 0
        return min(self.longest, ready - ready % self._spec.multiple)

    def _run(self, x: Array, flush: Flush | None = None) -> Array:
        self._newest = x[..., -1:, :, :].copy() if self._spec.flush else None
        outputs = self._chain.step(np.ascontiguousarray(x), flush=flush is not None)
        y = outputs[self._chain.gives.name]
        if self._beside is not None:
            y = np.concatenate([y, outputs[self._beside]], axis=_CHANNELS)
        if flush is not None:
            y = y[..., : flush.keep, :, :]
        drop = min(self._to_drop, y.shape[_TIME])
        self._to_drop -= drop
        return y[..., drop:, :, :]
