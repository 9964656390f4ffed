"""ONNX Runtime: states stay on the device between calls through IO binding."""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidtok_runtime.engines.base import Array, Options, Provider, Shapes, copied
from vidtok_runtime.engines.provider_options import apply_to
from vidtok_runtime.engines.telemetry import without_telemetry
from vidtok_runtime.errors import BundleError, ProviderError
from vidtok_runtime.machine import cores

with without_telemetry():
    import onnxruntime as ort

# What a graph spends its time on.
_HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm", "MultiHeadAttention")


class OrtSession:
    """A graph on ONNX Runtime; a node that the provider leaves goes to the CPU, which is said on stderr."""

    def __init__(self, provider: Provider, path: Path, options: Options) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads or cores()
        settings.log_severity_level = 3
        # A plan of the whole call's memory holds more at once: a third of the peak, for a few percent of the speed.
        settings.enable_mem_pattern = False
        self._device = provider.device
        # On the CPU all outputs are arrays.
        self._resident = options.resident | options.handed_on if self._device == "cuda" else frozenset[str]()
        if provider.name == "cpu":
            apply_to(settings, options.provider_options)
            choices = list(provider.executions)
        else:
            settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            choices = _choices(provider, settings, options)
        self._arena = settings.enable_cpu_mem_arena
        self._device_id = options.device_id if self._device == "cuda" else 0
        if self._device == "cuda" and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        try:
            self._session = ort.InferenceSession(path, settings, providers=choices)
        except Exception as error:  # ONNX Runtime raises its own unrelated classes
            raise BundleError(f"ONNX Runtime cannot load {path}: {_first_line(error)}") from error
        if provider.name != "cpu":
            _check_taken(self._session, provider, options.device_id, path)
        self.inputs = _shapes(self._session.get_inputs())
        self.outputs = _shapes(self._session.get_outputs())
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def run(
        self, inputs: Mapping[str, Array], into: Mapping[str, Any] | None = None, *, release: bool = False
    ) -> dict[str, Any]:
        """Outputs by name: arrays, and for those that only feed graphs values that stay on the device."""
        binding = self._session.io_binding()
        into = into or {}
        for name, value in inputs.items():
            if isinstance(value, ort.OrtValue):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_cpu_input(name, np.ascontiguousarray(value))
        for name in self.outputs:
            there = into.get(name)
            if isinstance(there, ort.OrtValue):
                binding.bind_ortvalue_output(name, there)
            elif name in self._resident:
                binding.bind_output(name, self._device, self._device_id)
            else:
                binding.bind_output(name, "cpu")
        self._run_bound(binding, release=release)
        values = dict(zip(self.outputs, binding.get_outputs(), strict=True))
        # Copies: a value lies among what the engine computes with, and would keep that from the next call.
        return {name: v if name in self._resident else copied(v.numpy(), into.get(name)) for name, v in values.items()}

    def _run_bound(self, binding: Any, graph: str | None = None, *, release: bool = False) -> None:
        """Run what is bound; graph: number of the CUDA graph that is captured or replayed, -1 for none."""
        options = ort.RunOptions()
        if graph is not None:
            options.add_run_config_entry("gpu_graph_id", graph)
        if release and self._arena:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:
            raise ProviderError(f"ONNX Runtime failed: {_first_line(error)}") from error


def _shapes(nodes: list[Any]) -> Shapes:
    """Types and sizes; `tensor(float)` is float32."""
    types = {node.name: re.sub(r"tensor\((\w+)\)", r"\1", node.type) for node in nodes}
    return {
        node.name: (
            {"float": "float32", "double": "float64"}.get(types[node.name], types[node.name]),
            tuple(size if isinstance(size, int) else None for size in node.shape),
        )
        for node in nodes
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def plugin_devices(provider: Provider) -> list[Any]:
    """The devices of a provider that a package of its own brings, whose library is loaded once a process."""
    assert provider.plugin is not None
    name = provider.executions[0]
    if not (found := _devices(name)):
        library = importlib.import_module(provider.plugin).get_library_path()
        try:
            ort.register_execution_provider_library(name, library)
        except Exception as error:
            raise ProviderError(f"{provider.plugin} does not load: {_first_line(error)}") from error
        found = _devices(name)
    return found


def _devices(name: str) -> list[Any]:
    return [device for device in ort.get_ep_devices() if device.ep_name == name]


def _choices(provider: Provider, settings: Any, options: Options) -> list[Any]:
    """What a session takes as `providers`; those of plug-ins go into its settings instead."""
    own = {**provider.settings, **dict(options.provider_options)}
    if provider.leaves and options.left:
        settings.add_session_config_entry(provider.leaves, "\n".join(options.left))
    if provider.executions[0] not in ort.get_available_providers():
        settings.add_provider_for_devices(plugin_devices(provider)[:1], own)
        return []
    if provider.numbered:
        own["device_id"] = str(options.device_id)
    return [(provider.executions[0], own), *provider.executions[1:]]


def _check_taken(session: Any, provider: Provider, device_id: int, path: Path) -> None:
    """Raise ProviderError where ONNX Runtime went on quietly with the CPU; say what it computes there on stderr."""
    first = provider.executions[0]
    failed = f"provider {provider.name}: {first} did not start on device {device_id}; check the driver and libraries"
    if session.get_providers()[0] != first:
        raise ProviderError(f"{failed}: {provider.cure}")
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return  # before ONNX Runtime 1.24
    nodes = {True: Counter[str](), False: Counter[str]()}
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name == "CPUExecutionProvider"].update(node.op_type for node in part.get_nodes())
    if not nodes[False]:
        raise ProviderError(f"{failed}: it takes no node of {path.name}")
    for kind in provider.wrong:
        if nodes[False][kind]:
            raise BundleError(
                f"{path} leaves {kind} to {provider.name}, which computes it wrong; export the bundle again"
            )
    left = {kind: count for kind in _HEAVY if (count := nodes[True][kind])}
    if left:
        kinds = ", ".join(f"{count} of {count + nodes[False][kind]} {kind}" for kind, count in left.items())
        print(f"vidtok: {provider.name} leaves {kinds} of {path.name} to the CPU", file=sys.stderr)
