"""The loop that carries a graph's state from call to call."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vidtok_runtime.bundle.graph_entry import GraphEntry, Port, shape_of, sizes_of
from vidtok_runtime.engines.base import Array, Session
from vidtok_runtime.errors import BundleError, InputError, ProviderError

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
        results = self.run(x, true, self._state, release=self.sparing)
        # One set of state buffers more than there are streams: what was read in this call is written in the next.
        self.give_back(x, {s.output: self._state[s.input] for s in self.entry.states})
        self._state = {s.input: results[s.output] for s in self.entry.states}
        return {p.name: results[p.name] for p in self.entry.outputs}

    def run(
        self, x: Any, true: Collection[str], states: Mapping[str, Any], *, release: bool = False
    ) -> dict[str, Any]:
        """Outputs and new states by name for states of the caller's own; raises BundleError.

        release: as `Session.run` has it.
        """
        port = self.entry.inputs[0]
        sizes = sizes_of(port.axes, shape_on(x))
        flags = {f.name: np.full(shape_of(f.axes, sizes), f.name in true, f.dtype) for f in self.entry.flags}
        inputs = {port.name: x, **flags, **states}
        try:
            results = self.session.run(inputs, self._room(_size(x), sizes), release=release)
        except ProviderError:
            self._check_shapes(self.session.run(inputs), sizes)  # an output need not fit into its room
            raise
        self._check_shapes(results, sizes)
        return results

    def give_back(self, x: Any, buffers: dict[str, Any]) -> None:
        """Buffers of states, by output, that went with data of this size and that nobody needs any more."""
        if not self.sparing:
            self._spares.append((_size(x), buffers))

    def initial_state(self, shape: tuple[int, ...]) -> dict[str, Array]:
        """States by input at the start of a stream of data of this shape; raises InputError."""
        sizes = sizes_of(self.entry.inputs[0].axes, shape)
        return {s.input: self._array(np.zeros, Port(s.input, s.dtype, s.axes), sizes) for s in self.entry.states}

    def _room(self, size: tuple[int, ...], sizes: Mapping[str, int]) -> dict[str, Any]:
        """Memory for all that the graph gives: of states, if there is some of this size, what no stream needs any more.

        An engine's own would lie among what it computes with, which then takes more from call to call.
        """
        try:
            fits, buffers = self._spares.pop()
        except IndexError:
            fits, buffers = size, {}
        kept = buffers if fits == size else {}
        ports = self.entry.ports["outputs"]
        return {name: kept[name] if name in kept else self._array(np.empty, ports[name], sizes) for name in ports}

    def _array(self, make: Any, port: Port, sizes: Mapping[str, int]) -> Array:
        shape = shape_of(port.axes, sizes)
        try:
            array: Array = make(shape, port.dtype)
        except (MemoryError, ValueError) as error:
            raise InputError(f"{port.name} of the {self.entry.role}, {list(shape)}, needs too much memory") from error
        return array

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
