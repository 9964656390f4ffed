"""The loop that carries a graph's state from call to call."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidtok_runtime.bundle.graph_entry import FIRST_CALL, FLUSH_CALL, SECOND_CALL, GraphEntry, shape_of, sizes_of
from vidtok_runtime.engines.base import Array, Session
from vidtok_runtime.errors import BundleError, InputError

Spare = tuple[tuple[int, ...], dict[str, Array]]  # size of the data, state buffers by output


class StatefulGraph:
    """A graph of a bundle and the state of one stream through it."""

    def __init__(self, entry: GraphEntry, session: Session, spares: list[Spare] | None = None) -> None:
        self.entry = entry
        self.session = session
        self._spares = [] if spares is None else spares
        self._streams: weakref.WeakSet[StatefulGraph] = weakref.WeakSet()
        self._state: dict[str, Array] | None = None
        self._calls = 0

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """Type of the graph's data input."""
        return np.dtype(self.entry.inputs[0].dtype)

    def fresh(self) -> StatefulGraph:
        """Another stream through the same loaded graph; the streams of a graph share what memory is spare."""
        stream = StatefulGraph(self.entry, self.session, self._spares)
        self._streams.add(stream)
        return stream

    @property
    def in_use(self) -> bool:
        """Whether a stream that `fresh` gave is still there."""
        return bool(self._streams)

    def step(self, x: Array, *, flush: bool = False) -> dict[str, Array]:
        """Run one chunk `N ...` and keep the new states for the next; returns the outputs by name.

        flush: this call comes after the end of the stream.
        """
        port = self.entry.inputs[0]
        sizes = sizes_of(port.axes, x.shape)
        if self._state is None:
            self._state = self._initial_state(x, sizes)
        self._calls += 1
        occasions = {{1: FIRST_CALL, 2: SECOND_CALL}.get(self._calls), FLUSH_CALL if flush else None}
        flags = {
            f.name: np.full(shape_of(f.axes, {}), not occasions.isdisjoint(f.set), f.dtype) for f in self.entry.flags
        }
        size = (x.shape[0], *x.shape[-2:])
        results = self.session.run({port.name: x, **flags, **self._state}, self._spare(size))
        self._check_shapes(results, sizes)
        # One set of state buffers more than there are streams: what was read in this call is written in the next.
        self._spares.append((size, {s.output: self._state[s.input] for s in self.entry.states}))
        self._state = {s.input: results[s.output] for s in self.entry.states}
        outputs = {p.name: results[p.name] for p in self.entry.outputs}
        for name, output in outputs.items():
            if output.dtype.kind == "f" and not np.isfinite(output).all():
                raise BundleError(
                    f"the {self.entry.role} gave NaN or infinite {name}; its weights or what it was given are damaged"
                )
        return outputs

    def _spare(self, size: tuple[int, ...]) -> dict[str, Array]:
        """State buffers that no stream needs any more, if there are some for this size."""
        try:
            fits, buffers = self._spares.pop()
        except IndexError:
            return {}
        return buffers if fits == size else {}

    def _check_shapes(self, results: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Raise BundleError unless outputs and states have the sizes that the manifest promises for these data."""
        for name, port in self.entry.ports["outputs"].items():
            value, promised = results[name], shape_of(port.axes, sizes)
            # What an engine keeps on a device tells its sizes when it is asked.
            found = value.shape if isinstance(value, np.ndarray) else value.shape()
            if tuple(found) != promised:
                raise BundleError(
                    f"the {self.entry.role} gave {name} of {list(found)} where its manifest promises {list(promised)} "
                    f"({port.axes}); export the bundle again"
                )

    def _initial_state(self, x: Array, sizes: Mapping[str, int]) -> dict[str, Array]:
        states = {}
        try:
            for state in self.entry.states:
                states[state.input] = np.zeros(shape_of(state.axes, sizes), state.dtype)
        except (MemoryError, ValueError) as error:
            raise InputError(f"the {self.entry.role}'s state for data {list(x.shape)} needs too much memory") from error
        return states
