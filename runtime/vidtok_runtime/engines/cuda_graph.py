"""CUDA graphs: a call is captured once and then replayed as one launch, in the memory it was captured in."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidtok_runtime.engines.base import Array, Options, Provider
from vidtok_runtime.engines.ort import OrtSession
from vidtok_runtime.engines.pinned_memory import pinned_array
from vidtok_runtime.engines.telemetry import without_telemetry

with without_telemetry():
    import onnxruntime as ort

MAX_GRAPHS = 16  # of a session; what comes after them runs without one
MAX_SIZES = 8  # whose buffers are kept; the lengths of a stream's calls and of its last one
_NO_CAPTURE = "-1"

Shape = tuple[int, ...]


class CapturedOrtSession(OrtSession):
    """A graph on ONNX Runtime whose calls all read and write memory with fixed addresses.

    A set of addresses that comes back is captured as a graph of its own: the two sets of state buffers of a stream
    make two. Data go through pinned memory into one buffer of their size. Every buffer lies outside of the
    session's own arena, whose memory a replay writes without asking.
    """

    def __init__(self, provider: Provider, path: Path, options: Options) -> None:
        super().__init__(provider, path, options)
        self._resident = options.resident  # what is handed on would lie elsewhere in every call
        self._turn = threading.Lock()  # a replay has its buffers for itself
        self._staging: dict[tuple[str, Shape], tuple[Array, ort.OrtValue]] = {}
        self._results: dict[tuple[Shape, ...], dict[str, ort.OrtValue]] = {}
        self._graphs: dict[tuple[tuple[int, Shape], ...], str] = {}
        self._captured = 0

    def run(
        self, inputs: Mapping[str, Array], into: Mapping[str, Any] | None = None, *, release: bool = False
    ) -> dict[str, Any]:
        """As of OrtSession; what is captured is never released."""
        with self._turn:
            takes = {n: v if isinstance(v, ort.OrtValue) else self._staged(n, v) for n, v in inputs.items()}
            sizes = tuple(tuple(value.shape()) for value in takes.values())
            if sizes not in self._results:
                return self._first(sizes, takes)
            gives = {
                name: self._target(name, like, (into or {}).get(name)) for name, like in self._results[sizes].items()
            }
            binding = self._session.io_binding()
            for name, value in takes.items():
                binding.bind_ortvalue_input(name, value)
            for name, value in gives.items():
                binding.bind_ortvalue_output(name, value)
            self._run_bound(binding, self._graph_of([*takes.values(), *gives.values()]))
            return {name: v if name in self._resident else self._to_host(v) for name, v in gives.items()}

    def _first(self, sizes: tuple[Shape, ...], takes: Mapping[str, ort.OrtValue]) -> dict[str, Any]:
        """The first call of these sizes tells those of the outputs; the engine tries its algorithms in it."""
        if len(self._results) == MAX_SIZES:
            for kept in (self._staging, self._results, self._graphs):
                kept.clear()
        binding = self._session.io_binding()
        for name, value in takes.items():
            binding.bind_ortvalue_input(name, value)
        for name in self.outputs:
            binding.bind_output(name, self._device, self._device_id)
        self._run_bound(binding, _NO_CAPTURE)
        found = {name: v.numpy() for name, v in zip(self.outputs, binding.get_outputs(), strict=True)}
        there = self._results[sizes] = {name: self._on_device(value) for name, value in found.items()}
        return {name: there[name] if name in self._resident else value for name, value in found.items()}

    def _staged(self, name: str, value: Array) -> ort.OrtValue:
        """The value in the device's buffer for this input and size."""
        key = (name, value.shape)
        if key not in self._staging:
            host = pinned_array(value.shape, value.dtype)
            self._staging[key] = (host, self._on_device(value))
        host, there = self._staging[key]
        np.copyto(host, value)
        there.update_inplace(host)
        return there

    def _target(self, name: str, like: ort.OrtValue, there: Any) -> ort.OrtValue:
        """Where an output goes: a state to memory of its own, all else to the one buffer of its size."""
        if name not in self._resident:
            return like
        if isinstance(there, ort.OrtValue) and there.shape() == like.shape():
            return there
        return self._on_device(np.zeros(like.shape(), self.outputs[name][0]))

    def _graph_of(self, values: list[ort.OrtValue]) -> str:
        """Number of the graph for these buffers; none where they are met for the first time."""
        key = tuple((value.data_ptr(), tuple(value.shape())) for value in values)
        if key not in self._graphs:
            self._graphs[key] = _NO_CAPTURE
        elif self._graphs[key] == _NO_CAPTURE and self._captured < MAX_GRAPHS:
            self._captured += 1  # a number is never given twice: the engine would replay the old graph
            self._graphs[key] = str(self._captured)
        return self._graphs[key]

    def _to_host(self, value: ort.OrtValue) -> Array:
        host: Array = value.numpy()
        return host.copy() if self._device == "cpu" else host  # there it is the buffer itself

    def _on_device(self, value: Array) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(value.copy(), self._device, self._device_id)
