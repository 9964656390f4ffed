"""ONNX Runtime: states stay on the device between calls through IO binding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vidtok_runtime.engines.base import Array, Options, Shapes, copied
from vidtok_runtime.engines.provider_options import apply_to
from vidtok_runtime.engines.telemetry import without_telemetry
from vidtok_runtime.errors import BundleError, ProviderError
from vidtok_runtime.machine import cores

with without_telemetry():
    import onnxruntime as ort


class OrtSession:
    """A graph on ONNX Runtime, on the CPU or a CUDA device."""

    def __init__(self, path: Path, options: Options, provider: str) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads or cores()
        settings.log_severity_level = 3
        # A plan of the whole call's memory holds more at once: a third of the peak, for a few percent of the speed.
        settings.enable_mem_pattern = False
        self._resident: frozenset[str] = frozenset()  # on the CPU all outputs are arrays
        self._device = "cpu"
        choice: Any = provider
        if provider == "CUDAExecutionProvider":
            self._device = "cuda"
            self._resident = options.resident | options.handed_on
            # TensorFloat-32 keeps ten bits of a factor: faster, and not the same tokens. So it is only on request.
            choice = (provider, {"device_id": options.device_id, "use_tf32": "0", **dict(options.provider_options)})
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()
        else:
            apply_to(settings, options.provider_options)
        self._arena = settings.enable_cpu_mem_arena
        self._device_id = options.device_id if self._device == "cuda" else 0
        try:
            self._session = ort.InferenceSession(path, settings, providers=[choice])
        except Exception as error:  # ONNX Runtime raises its own unrelated classes
            raise BundleError(f"ONNX Runtime cannot load {path}: {_first_line(error)}") from error
        # ONNX Runtime would go on quietly with the CPU.
        if self._session.get_providers()[0] != provider:
            raise ProviderError(
                f"provider cuda: {provider} did not start on device {options.device_id}; check the driver "
                "and the CUDA and cuDNN libraries: pip install 'vidtok-onnx[cuda]'"
            )
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
