"""OpenVINO on the CPU, computing in float32 unless the graph says otherwise."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidtok_runtime.engines.base import Array, Options, Shapes, copied
from vidtok_runtime.engines.compiled_cache import cache_file, keep, load
from vidtok_runtime.engines.openvino_means import reduce_means
from vidtok_runtime.engines.telemetry import without_telemetry
from vidtok_runtime.errors import BundleError, ProviderError
from vidtok_runtime.machine import cores

with without_telemetry():
    import openvino as ov
    import openvino.properties as props
    import openvino.properties.hint as hints

# One for the process and never dropped: the CPU plugin gives the thread that loads it a stack for signals and unmaps it
# with the last Core. If another thread drops that, the next signal with a Python handler (Ctrl-C) kills the process.
CORE = ov.Core()


class OpenVinoSession:
    """A graph on OpenVINO."""

    def __init__(self, path: Path, options: Options) -> None:
        settings: dict[Any, Any] = {
            hints.inference_precision: ov.Type.f32,
            hints.performance_mode: hints.PerformanceMode.LATENCY,
            # Every session that pins takes the same first cores: two on one machine would share one.
            hints.enable_cpu_pinning: False,
            props.inference_num_threads: options.threads or cores(),
        }
        settings |= dict(options.provider_options)
        try:
            compiled = _compile(path, options.weights, settings)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load {path}: {str(error).strip().splitlines()[-1]}") from error
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._turn = threading.Lock()  # one request, whose buffers every stream of a tokenizer uses
        self.inputs, self.outputs = _shapes(compiled.inputs), _shapes(compiled.outputs)

    def run(
        self, inputs: Mapping[str, Array], into: Mapping[str, Any] | None = None, *, release: bool = False
    ) -> dict[str, Any]:
        """Outputs by name."""
        contiguous = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        into = into or {}
        with self._turn:
            try:
                results = self._request.infer(contiguous, share_inputs=True, share_outputs=True)
            except RuntimeError as error:
                raise ProviderError(f"OpenVINO failed: {str(error).strip().splitlines()[-1]}") from error
            # Copies: the next call writes the request's own buffers again.
            found = {name: copied(results[i], into.get(name)) for i, name in enumerate(self.outputs)}
            if release:
                del results
                self._compiled.release_memory()
            return found


def _compile(path: Path, weights: Sequence[Path], settings: dict[Any, Any]) -> Any:
    """The compiled graph, out of the cache if it is there."""
    named = sorted((str(name), str(value)) for name, value in settings.items())
    device = CORE.get_property("CPU", props.device.full_name)
    kept = cache_file([path, *weights], ov.get_version(), device, named, "reduced means")
    if kept is not None and (blob := load(kept)) is not None:
        with contextlib.suppress(RuntimeError):  # of another machine, perhaps: compile as if it were not there
            return CORE.import_model(blob, "CPU", settings)
    model = CORE.read_model(path)
    reduce_means(model)
    compiled = CORE.compile_model(model, "CPU", settings)
    if kept is not None:
        keep(kept, compiled.export_model().getvalue())
    return compiled


def _shapes(ports: list[Any]) -> Shapes:
    return {
        port.any_name: (
            port.element_type.to_dtype().name,
            tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape),
        )
        for port in ports
    }
