"""One interface over the inference engines, and the loop that carries a graph's state from call to call."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.arguments import whole
from vidtok_runtime.errors import BundleError, InputError, ProviderError
from vidtok_runtime.graph_entry import FIRST_CALL, FLUSH_CALL, SECOND_CALL, GraphEntry, Port, shape_of, sizes_of
from vidtok_runtime.manifest import Manifest, check_file
from vidtok_runtime.telemetry import without_telemetry

Array = NDArray[Any]
Spare = tuple[tuple[int, ...], dict[str, Array]]  # size of the data, state buffers by output
Shapes = dict[str, tuple[str, tuple[int | None, ...]]]  # of each name its type and sizes, None where any will do


class Session(Protocol):
    """A loaded graph."""

    inputs: Shapes
    outputs: Shapes

    def run(self, inputs: Mapping[str, Array], spare: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Outputs by name; state outputs may be engine-owned values that only feed the next call.

        spare: such values of earlier calls, by output, that nobody needs any more: their memory may be written.
        """
        ...


@dataclass(frozen=True)
class Options:
    """Settings of a session: CPU threads (None: one a core), device number, outputs that only feed the next call.

    provider_options: names and values for the engine itself: of the CUDA provider (`use_tf32`, `enable_cuda_graph`,
    `cudnn_conv_algo_search`, `gpu_mem_limit`...), attributes and configuration of ONNX Runtime's session on the CPU,
    properties of OpenVINO. Raises InputError.
    """

    threads: int | None = None
    device_id: int = 0
    provider_options: tuple[tuple[str, str], ...] = ()
    resident: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.threads is not None:
            object.__setattr__(self, "threads", whole("threads", self.threads, 1))
        object.__setattr__(self, "device_id", whole("device_id", self.device_id, 0))


def _load_cpu(path: Path, options: Options) -> Session:
    from vidtok_runtime.session_ort import OrtSession

    return OrtSession(path, options, "CPUExecutionProvider")


def _load_cuda(path: Path, options: Options) -> Session:
    from vidtok_runtime.session_captured import CapturedOrtSession
    from vidtok_runtime.session_ort import OrtSession

    captured = dict(options.provider_options).get("enable_cuda_graph", "0") in ("1", "True", "true")
    return (CapturedOrtSession if captured else OrtSession)(path, options, "CUDAExecutionProvider")


def _load_openvino(path: Path, options: Options) -> Session:
    from vidtok_runtime.session_openvino import OpenVinoSession

    return OpenVinoSession(path, options)


# Provider -> the module it needs, the extra that brings it, its loader.
PROVIDERS: dict[str, tuple[str, str, Callable[[Path, Options], Session]]] = {
    "cpu": ("onnxruntime", "cpu", _load_cpu),
    "cuda": ("onnxruntime", "cuda", _load_cuda),
    "openvino": ("openvino", "openvino", _load_openvino),
}
_AUTO_ORDER = ("cuda", "openvino", "cpu")


def unavailable(provider: str) -> str | None:
    """Why a provider cannot be used here, with the cure; None when it can."""
    module, extra, _ = PROVIDERS[provider]
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed; pip install 'vidtok-onnx[{extra}]'"
    try:
        with without_telemetry():
            engine = importlib.import_module(module)
    except ImportError as error:
        return (
            f"{module} is installed but does not load ({error}); pip install --force-reinstall 'vidtok-onnx[{extra}]'"
        )
    if provider == "cuda":
        offered = engine.get_available_providers()
        if "CUDAExecutionProvider" not in offered:
            return (
                f"the installed onnxruntime offers only {', '.join(offered)}; "
                "pip uninstall onnxruntime, then pip install 'vidtok-onnx[cuda]'"
            )
    return None


def usable_providers() -> tuple[str, ...]:
    """The providers that can be used here."""
    return tuple(name for name in PROVIDERS if unavailable(name) is None)


def choose_provider(name: str) -> str:
    """Resolve a provider name; `auto` takes the first of cuda, openvino, cpu that is usable and says so on stderr.

    Raises ProviderError with the cause and the cure.
    """
    if name == "auto":
        for candidate in _AUTO_ORDER:
            if unavailable(candidate) is None:
                print(f"vidtok: provider auto took {candidate}", file=sys.stderr)
                return candidate
        raise ProviderError(
            "no inference engine is installed; pip install 'vidtok-onnx[cpu]' or 'vidtok-onnx[openvino]'"
        )
    if not isinstance(name, str) or name not in PROVIDERS:
        raise ProviderError(f"no provider is called {name!r:.60}; choose auto, {', '.join(PROVIDERS)}")
    reason = unavailable(name)
    if reason:
        raise ProviderError(f"provider {name}: {reason}")
    return name


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


def load_graph(manifest: Manifest, role: str, provider: str, precision: str | None, options: Options) -> StatefulGraph:
    """Load a graph of a bundle and check it against the manifest; raises BundleError, ProviderError."""
    entry = manifest.graph(role, provider, precision)
    options = replace(options, resident=frozenset(s.output for s in entry.states))
    session = PROVIDERS[provider][2](check_file(manifest, entry), options)
    _check_ports(manifest, entry, session)
    return StatefulGraph(entry, session)


def _check_ports(manifest: Manifest, entry: GraphEntry, session: Session) -> None:
    """Raise BundleError where names, types or sizes of a graph are not those of the manifest."""
    where = f"{manifest.folder / entry.file} does not fit its manifest"
    for kind, found in (("inputs", session.inputs), ("outputs", session.outputs)):
        expected = entry.ports[kind]
        if expected.keys() != found.keys():
            raise BundleError(
                f"{where}: {kind} that only the manifest has: {sorted(expected.keys() - found.keys())}, "
                f"that only the graph has: {sorted(found.keys() - expected.keys())}"
            )
        for name, port in expected.items():
            dtype, sizes = found[name]
            if dtype != port.dtype or not _fit(port, sizes):
                raise BundleError(
                    f"{where}: {name} is {port.dtype} [{port.axes}] in the manifest, {dtype} "
                    f"[{' '.join('?' if n is None else str(n) for n in sizes)}] in the graph"
                )


def _fit(port: Port, sizes: tuple[int | None, ...]) -> bool:
    """Whether the manifest's axes agree with a graph's sizes; only numbers can contradict each other."""
    axes = port.axes.split()
    fixed = [int(axis) if axis.isdigit() else None for axis in axes]
    return len(axes) == len(sizes) and all(a == b or a is None or b is None for a, b in zip(fixed, sizes, strict=True))
