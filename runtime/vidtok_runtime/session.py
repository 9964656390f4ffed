"""One interface over the inference engines, and the loop that carries a graph's state from call to call."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import BundleError, InputError, ProviderError
from vidtok_runtime.manifest import FIRST_CALL, FLUSH_CALL, SECOND_CALL, GraphEntry, Manifest, check_file, shape_of

Array = NDArray[Any]


class Session(Protocol):
    """A loaded graph."""

    input_names: list[str]
    output_names: list[str]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name; state outputs may be engine-owned values that only feed the next call."""
        ...


@dataclass(frozen=True)
class Options:
    """Settings of a session: CPU threads (None: all), device number, outputs that only feed the next call."""

    threads: int | None = None
    device_id: int = 0
    resident: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads must be at least 1, got {self.threads}")


def _load_cpu(path: Path, options: Options) -> Session:
    from vidtok_runtime.session_ort import OrtSession

    return OrtSession(path, options, "CPUExecutionProvider")


def _load_cuda(path: Path, options: Options) -> Session:
    from vidtok_runtime.session_ort import OrtSession

    return OrtSession(path, options, "CUDAExecutionProvider")


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


def _unavailable(provider: str) -> str | None:
    """Why a provider cannot be used here, with the cure; None when it can."""
    module, extra, _ = PROVIDERS[provider]
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed; pip install 'vidtok-onnx[{extra}]'"
    try:
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
    return tuple(name for name in PROVIDERS if _unavailable(name) is None)


def choose_provider(name: str) -> str:
    """Resolve a provider name; `auto` takes the first of cuda, openvino, cpu that is usable and says so on stderr.

    Raises ProviderError with the cause and the cure.
    """
    if name == "auto":
        for candidate in _AUTO_ORDER:
            if _unavailable(candidate) is None:
                print(f"vidtok: provider auto took {candidate}", file=sys.stderr)
                return candidate
        raise ProviderError(
            "no inference engine is installed; pip install 'vidtok-onnx[cpu]' or 'vidtok-onnx[openvino]'"
        )
    if name not in PROVIDERS:
        raise ProviderError(f"no provider is called {name!r}; choose auto, {', '.join(PROVIDERS)}")
    reason = _unavailable(name)
    if reason:
        raise ProviderError(f"provider {name}: {reason}")
    return name


class StatefulGraph:
    """A graph of a bundle and the state of one stream through it."""

    def __init__(self, entry: GraphEntry, session: Session) -> None:
        self.entry = entry
        self.session = session
        self._state: dict[str, Array] | None = None
        self._calls = 0

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """Type of the graph's data input."""
        return np.dtype(self.entry.inputs[0].dtype)

    def fresh(self) -> StatefulGraph:
        """Another stream through the same loaded graph."""
        return StatefulGraph(self.entry, self.session)

    def step(self, x: Array, *, flush: bool = False) -> dict[str, Array]:
        """Run one chunk `N ...` and keep the new states for the next; returns the outputs by name.

        flush: this call comes after the end of the stream.
        """
        port = self.entry.inputs[0]
        if self._state is None:
            self._state = self._initial_state(x, port.axes)
        self._calls += 1
        occasions = {{1: FIRST_CALL, 2: SECOND_CALL}.get(self._calls), FLUSH_CALL if flush else None}
        flags = {
            f.name: np.full(shape_of(f.axes, {}), not occasions.isdisjoint(f.set), f.dtype) for f in self.entry.flags
        }
        results = self.session.run({port.name: x, **flags, **self._state})
        self._state = {s.input: results[s.output] for s in self.entry.states}
        return {p.name: results[p.name] for p in self.entry.outputs}

    def _initial_state(self, x: Array, axes: str) -> dict[str, Array]:
        # The sizes of the first chunk, turned back into the manifest's symbols.
        sizes = {}
        for axis, size in zip(axes.split(), x.shape, strict=True):
            symbol, _, divisor = axis.partition("/")
            if not symbol.isdigit():
                sizes[symbol] = size * int(divisor or 1)
        states = {}
        for state in self.entry.states:
            if state.initial != "zeros":
                raise BundleError(f"this runtime does not know the initial state {state.initial!r}; update vidtok-onnx")
            states[state.input] = np.zeros(shape_of(state.axes, sizes), state.dtype)
        return states


def load_graph(manifest: Manifest, role: str, provider: str, precision: str | None, options: Options) -> StatefulGraph:
    """Load a graph of a bundle and check it against the manifest; raises BundleError, ProviderError."""
    entry = manifest.graph(role, provider, precision)
    options = replace(options, resident=frozenset(s.output for s in entry.states))
    session = PROVIDERS[provider][2](check_file(manifest, entry), options)
    expected = {
        "inputs": {entry.inputs[0].name, *(f.name for f in entry.flags), *(s.input for s in entry.states)},
        "outputs": {*(p.name for p in entry.outputs), *(s.output for s in entry.states)},
    }
    found = {"inputs": set(session.input_names), "outputs": set(session.output_names)}
    for kind, names in expected.items():
        if names != found[kind]:
            raise BundleError(
                f"{manifest.folder / entry.file} does not fit its manifest: {kind} that only the manifest has: "
                f"{sorted(names - found[kind])}, that only the graph has: {sorted(found[kind] - names)}"
            )
    return StatefulGraph(entry, session)
