"""The graphs of a role, each of which takes what the one before gives, as one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vidtok_runtime.bundle.graph_entry import GraphEntry, Port
from vidtok_runtime.bundle.stream_spec import FIRST_CALL, FLUSH_CALL, SECOND_CALL
from vidtok_runtime.engines.base import Array, Session
from vidtok_runtime.errors import BundleError


class GraphStream(Protocol):
    """One graph and the state of a stream through it, as `StatefulGraph` or a wrapper of it has them."""

    @property
    def entry(self) -> GraphEntry: ...

    @property
    def session(self) -> Session: ...

    @property
    def in_use(self) -> bool: ...

    def fresh(self) -> GraphStream: ...

    def step(self, x: Any, true: Collection[str] = ()) -> dict[str, Any]: ...


class GraphChain:
    """The graphs of a role in the order of the data, and one stream through them.

    flags: the calls of the stream in which each flag is true, as `stream` of the manifest lists them.
    """

    def __init__(self, graphs: Sequence[GraphStream], flags: Mapping[str, tuple[str, ...]]) -> None:
        self.graphs = tuple(graphs)
        self._flags = flags
        self._calls = 0

    @property
    def role(self) -> str:
        """Encoder or decoder."""
        return self.graphs[0].entry.role

    @property
    def takes(self) -> Port:
        """Video, or latents or indices."""
        return self.graphs[0].entry.inputs[0]

    @property
    def gives(self) -> Port:
        """Latents or indices, or video."""
        return self.graphs[-1].entry.outputs[0]

    def fresh(self) -> GraphChain:
        """Another stream through the same loaded graphs."""
        return self.with_graphs([graph.fresh() for graph in self.graphs])

    def with_graphs(self, graphs: Sequence[GraphStream]) -> GraphChain:
        """Others in the place of its graphs."""
        return GraphChain(graphs, self._flags)

    @property
    def in_use(self) -> bool:
        """Whether a stream that `fresh` gave is still there."""
        return any(graph.in_use for graph in self.graphs)

    def step(self, x: Array, *, flush: bool = False) -> dict[str, Array]:
        """Run one chunk `N ...` and keep the new states for the next; returns the last graph's outputs by name.

        flush: this call comes after the end of the stream. Raises BundleError.
        """
        self._calls += 1
        occasions = {{1: FIRST_CALL, 2: SECOND_CALL}.get(self._calls), FLUSH_CALL if flush else None}
        true = {name for name, calls in self._flags.items() if not occasions.isdisjoint(calls)}
        value: Any = x
        outputs: dict[str, Any] = {}
        for graph in self.graphs:
            outputs = graph.step(value, true)
            value = outputs[graph.entry.outputs[0].name]
        for name, output in outputs.items():
            if output.dtype.kind == "f" and not np.isfinite(output).all():
                raise BundleError(
                    f"the {self.role} gave NaN or infinite {name}; its weights or what it was given are damaged"
                )
        return outputs
