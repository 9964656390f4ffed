"""The providers: which can be used here, and what loads a graph on each."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from vidtok_runtime.engines.base import Options, Provider, Session
from vidtok_runtime.engines.nvidia import no_gpu
from vidtok_runtime.engines.telemetry import without_telemetry
from vidtok_runtime.errors import ProviderError


def _load_ort(provider: Provider, path: Path, options: Options) -> Session:
    from vidtok_runtime.engines.ort import OrtSession

    return OrtSession(provider, path, options)


def _load_cuda(provider: Provider, path: Path, options: Options) -> Session:
    from vidtok_runtime.engines.cuda_graph import CapturedOrtSession

    captured = dict(options.provider_options).get("enable_cuda_graph", "0") in ("1", "True", "true")
    return CapturedOrtSession(provider, path, options) if captured else _load_ort(provider, path, options)


def _load_openvino(_: Provider, path: Path, options: Options) -> Session:
    from vidtok_runtime.engines.openvino import OpenVinoSession

    return OpenVinoSession(path, options)


_REPLACE = "pip uninstall onnxruntime, then pip install"  # all builds of ONNX Runtime install the same module
_ROWS = (
    Provider("cpu", "onnxruntime", "pip install 'vidtok-onnx[cpu]'", _load_ort, ("CPUExecutionProvider",)),
    Provider(
        "cuda",
        "onnxruntime",
        f"{_REPLACE} 'vidtok-onnx[cuda]'",
        _load_cuda,
        ("CUDAExecutionProvider",),
        device="cuda",
        # TensorFloat-32 keeps ten bits of a factor: faster, and not the same tokens. So it is only on request.
        settings={"use_tf32": "0"},
    ),
    Provider("openvino", "openvino", "pip install 'vidtok-onnx[openvino]'", _load_openvino),
    Provider(
        "tensorrt",
        "onnxruntime",
        f"{_REPLACE} 'vidtok-onnx[cuda]' tensorrt",
        _load_ort,
        ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
        device="cuda",
        graphs="cuda",
        tested=False,
    ),
    Provider(
        "directml",
        "onnxruntime",
        f"{_REPLACE} onnxruntime-directml (Windows)",
        _load_ort,
        ("DmlExecutionProvider",),
        graphs="cpu",
        tested=False,
    ),
    Provider(
        "coreml",
        "onnxruntime",
        "pip install onnxruntime (macOS)",
        _load_ort,
        ("CoreMLExecutionProvider",),
        graphs="cpu",
        numbered=False,
        tested=False,
    ),
    Provider(
        "migraphx",
        "onnxruntime",
        f"{_REPLACE} onnxruntime-migraphx (Linux, AMD)",
        _load_ort,
        ("MIGraphXExecutionProvider",),
        graphs="cpu",
        tested=False,
    ),
    Provider(
        "qnn",
        "onnxruntime",
        "pip install onnxruntime-qnn (Qualcomm)",
        _load_ort,
        ("QNNExecutionProvider",),
        plugin="onnxruntime_qnn",
        graphs="cpu",
        numbered=False,
        tested=False,
    ),
    Provider(
        "webgpu",
        "onnxruntime",
        f"{_REPLACE} onnxruntime-webgpu; or pip install onnxruntime-ep-webgpu",
        _load_ort,
        ("WebGpuExecutionProvider",),
        plugin="onnxruntime_ep_webgpu",
        leaves="ep.webgpuexecutionprovider.forceCpuNodeNames",
        wrong=("MultiHeadAttention",),  # ONNX Runtime 1.27 on a software device
        graphs="cpu",
        numbered=False,
        tested=False,
    ),
)
PROVIDERS = {row.name: row for row in _ROWS}
_AUTO_ORDER = ("cuda", "openvino", "cpu")


def unavailable(provider: str) -> str | None:
    """Why a provider cannot be used here, with the cure; None when it can."""
    row = PROVIDERS[provider]
    if importlib.util.find_spec(row.module) is None:
        return f"{row.module} is not installed; {row.cure}"
    try:
        with without_telemetry():
            engine = importlib.import_module(row.module)
    except ImportError as error:
        return f"{row.module} is installed but does not load ({error}); install it anew: {row.cure}"
    if not row.executions or row.executions[0] in (offered := engine.get_available_providers()):
        return no_gpu() if row.device == "cuda" else None
    if row.plugin is None or importlib.util.find_spec(row.plugin) is None:
        return f"the installed onnxruntime offers only {', '.join(offered)}; {row.cure}"
    from vidtok_runtime.engines.ort import plugin_devices

    try:
        return None if plugin_devices(row) else f"{row.plugin} finds no device for it on this machine"
    except ProviderError as error:
        return str(error)


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
    if not PROVIDERS[name].tested:
        print(f"vidtok: provider {name} is untested; compare its results: vidtok-run doctor", file=sys.stderr)
    return name
