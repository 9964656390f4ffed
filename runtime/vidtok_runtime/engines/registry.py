"""The providers: which can be used here, and what loads a graph on each."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from vidtok_runtime.engines.base import Options, Session
from vidtok_runtime.engines.telemetry import without_telemetry
from vidtok_runtime.errors import ProviderError


def _load_cpu(path: Path, options: Options) -> Session:
    from vidtok_runtime.engines.ort import OrtSession

    return OrtSession(path, options, "CPUExecutionProvider")


def _load_cuda(path: Path, options: Options) -> Session:
    from vidtok_runtime.engines.cuda_graph import CapturedOrtSession
    from vidtok_runtime.engines.ort import OrtSession

    captured = dict(options.provider_options).get("enable_cuda_graph", "0") in ("1", "True", "true")
    return (CapturedOrtSession if captured else OrtSession)(path, options, "CUDAExecutionProvider")


def _load_openvino(path: Path, options: Options) -> Session:
    from vidtok_runtime.engines.openvino import OpenVinoSession

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
