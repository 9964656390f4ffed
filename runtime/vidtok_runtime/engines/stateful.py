"""The loop that carries a graph's state from call to call."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vidtok_runtime.bundle.graph_entry import GraphEntry, shape_of, sizes_of
from vidtok_runtime.engines.base import Array, Session
from vidtok_runtime.errors import BundleError, InputError
from vidtok_runtime.machine import give_back

Spare = tuple[tuple[int, ...], dict[str, Array]]  # size of the data, state buffers by output


class StatefulGraph:
    """A graph of a bundle and the state of one stream through it."""

    def __init__(self, entry: GraphEntry, session: Session, spares: list[Spare] | None = None) -> None:
        self.entry = entry
        self.session = session
        self._spares = [] if spares is None else spares
        self.sparing = False  # of memory: what would only make the next call faster is given back
        self._streams: weakref.WeakSet[StatefulGraph] = weakref.WeakSet()
        self._state: dict[str, Array] | None = None

    def fresh(self) -> StatefulGraph:
        """Another stream through the same loaded graph; the streams of a graph share what memory is spare."""
        stream = StatefulGraph(self.entry, self.session, self._spares)
        self._streams.add(stream)
        return stream

    @property
    def in_use(self) -> bool:
        """Whether a stream that `fresh` gave is still there."""
        return bool(self._streams)

    def step(self, x: Any, true: Collection[str] = ()) -> dict[str, Any]:
        """Run one chunk `N ...` and keep the new states for the next; returns the outputs by name.

        x: an array, or what the engine keeps on a device. true: names of the flags that are set in this call.
        """
        if self._state is None:
            self._state = self.initial_state(shape_on(x))
        before = {s.output: self._state[s.input] for s in self.entry.states}
        on_device = any(not isinstance(value, np.ndarray) for value in before.values())
        results = self.run(x, true, self._state, self._spare(_size(x)) if on_device else before, release=self.sparing)
        if on_device:
            # One set of buffers more than there are streams: what was read in this call is written in the next.
            self._spares.append((_size(x), before))
        self._state = {s.input: results[s.output] for s in self.entry.states}
        return {p.name: results[p.name] for p in self.entry.outputs}

    def run(
        self, x: Any, true: Collection[str], states: Mapping[str, Any], into: Mapping[str, Any], *, release: bool
    ) -> dict[str, Any]:
        """Outputs and new states by name for states of the caller's own; raises BundleError.

        into, release: as `Session.run` has them.
        """
        port = self.entry.inputs[0]
        sizes = sizes_of(port.axes, shape_on(x))
        flags = {f.name: np.full(shape_of(f.axes, sizes), f.name in true, f.dtype) for f in self.entry.flags}
        results = self.session.run({port.name: x, **flags, **states}, into, release=release)
        if release:
            give_back()
        self._check_shapes(results, sizes)
        return results

    def initial_state(self, shape: tuple[int, ...]) -> dict[str, Array]:
        """States by input at the start of a stream of data of this shape; raises InputError."""
        sizes = sizes_of(self.entry.inputs[0].axes, shape)
        try:
            return {s.input: np.zeros(shape_of(s.axes, sizes), s.dtype) for s in self.entry.states}
        except (MemoryError, ValueError) as error:
            raise InputError(f"the {self.entry.role}'s state for data {list(shape)} needs too much memory") from error

    def _spare(self, size: tuple[int, ...]) -> dict[str, Array]:
        """State buffers on a device that no stream needs any more, if there are some for this size."""
        try:
            fits, buffers = self._spares.pop()
        except IndexError:
            return {}
        return buffers if fits == size else {}

    def _check_shapes(self, results: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Raise BundleError unless outputs and states have the sizes that the manifest promises for these data."""
        for name, port in self.entry.ports["outputs"].items():
            found, promised = shape_on(results[name]), shape_of(port.axes, sizes)
            if found != promised:
                raise BundleError(
                    f"the {self.entry.role} gave {name} of {list(found)} where its manifest promises {list(promised)} "
                    f"({port.axes}); export the bundle again"
                )


def shape_on(value: Any) -> tuple[int, ...]:
    """Of an array; what an engine keeps on a device tells its own when it is asked."""
    return tuple(value.shape if isinstance(value, np.ndarray) else value.shape())


def _size(x: Any) -> tuple[int, ...]:
    """What state buffers depend on: clips, height, width."""
    shape = shape_on(x)
    return shape[0], *shape[-2:]
