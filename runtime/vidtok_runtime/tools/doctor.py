"""What this machine has of what the runtime needs, what is missing, and the command that cures it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.lookup import DEFAULT
from vidtok_runtime.engines.registry import PROVIDERS, unavailable
from vidtok_runtime.errors import VidtokError
from vidtok_runtime.machine import cores, free_memory
from vidtok_runtime.remote import unavailable_store
from vidtok_runtime.versions import version_of

# What is needed, then what extras bring.
PACKAGES = ("vidtok-onnx", "numpy", "opencv-python-headless", "av", "click", "tqdm")
EXTRAS = ("onnxruntime", "onnxruntime-gpu", "openvino", "pyarrow", "fsspec", "ray", "matplotlib")
STORES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "hf": "huggingface_hub", "https": "aiohttp"}  # by scheme
DECODERS = ("h264", "hevc", "av1", "vp9", "mpeg4", "prores", "ffv1", "mjpeg")
ENCODERS = ("libx264", "libx265", "libsvtav1", "ffv1")
_PSNR = 20.0  # dB; what a graph that computes something else does not reach
_DIFFERENCE = 1e-3  # of latents between providers


def diagnose() -> dict[str, Any]:
    """All findings, ready for JSON; `self_test.passed` says whether the runtime works here."""
    return {
        "versions": {name: version_of(name) for name in (*PACKAGES, *EXTRAS)},
        "machine": _machine(),
        "video": _video(),
        "stores": {scheme: _store(scheme, library) for scheme, library in STORES.items()},
        "providers": {name: unavailable(name) for name in PROVIDERS},
        "self_test": _self_test([name for name in PROVIDERS if unavailable(name) is None]),
    }


def report(findings: dict[str, Any]) -> Iterator[str]:
    """Lines of text about the findings."""
    for name, found in findings["versions"].items():
        yield _line(name, found or "not installed")
    machine, video = findings["machine"], findings["video"]
    yield _line("Python", f"{machine['python']} ({machine['executable']})")
    yield _line("system", machine["system"])
    yield _line(
        "threads", f"{machine['usable_cores']} of {machine['cores']} cores may be used; a session takes as many threads"
    )
    for name in ("memory_bytes", "memory_available_bytes"):
        if machine[name] is not None:
            yield _line(name.removesuffix("_bytes").replace("_", " "), f"{machine[name] / 2**30:.1f} GiB")
    yield _line("FFmpeg", video["ffmpeg"])
    for kind in ("decoders", "encoders"):
        there = [name for name, found in video[kind].items() if found]
        missing = [name for name, found in video[kind].items() if not found]
        yield _line(kind, ", ".join(there) + (f"; missing: {', '.join(missing)}" if missing else ""))
    for scheme, found in findings["stores"].items():
        yield _line(f"files of {scheme}://", _store_line(found))
    test = findings["self_test"]
    for name, reason in findings["providers"].items():
        outcome = _outcome(test["providers"][name]) if reason is None else f"not usable: {reason}"
        yield _line(f"provider {name}", outcome if PROVIDERS[name].tested else f"(untested) {outcome}")
    yield _line("self-test", f"{test['bundle']}: {'passed' if test['passed'] else 'FAILED'}")


def _line(name: str, value: object) -> str:
    return f"{name:<24}{value}"


def _store_line(found: dict[str, Any]) -> str:
    return f"not usable: {found['reason']}" if found["reason"] else f"{found['library']} {found['version']}"


def _outcome(result: dict[str, Any]) -> str:
    if result["error"]:
        return f"FAILED: {result['error']}"
    text = f"works, the test clip comes back with {result['psnr']:.1f} dB"
    return text + (f", latents within {result['difference']:.0e} of the first's" if result["difference"] else "")


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "cores": os.cpu_count(),
        "usable_cores": cores(),
        "memory_bytes": _memory(),
        "memory_available_bytes": free_memory(),
    }


def _memory() -> int | None:
    """Bytes of the machine, where the system says so."""
    try:
        found = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _store(scheme: str, library: str) -> dict[str, Any]:
    return {"library": library, "version": version_of(library), "reason": unavailable_store(scheme)}


def _video() -> dict[str, Any]:
    import av

    def has(name: str, mode: Literal["r", "w"]) -> bool:
        try:
            av.Codec(name, mode)
        except ValueError:
            return False
        return True

    return {
        "ffmpeg": av.ffmpeg_version_info,
        "decoders": {name: has(name, "r") for name in DECODERS},
        "encoders": {name: has(name, "w") for name in ENCODERS},
    }


def _clip() -> NDArray[np.uint8]:
    """Nine frames of drifting ramps, uint8 `T H W 3`, by integers, so that it is the same everywhere."""
    t, y, x = np.ogrid[:9, :64, :64]
    ramps = (x * 4 + t * 3 + y, y * 4 - t * 5 + x, 128 + x - y + t * 8)
    return np.stack([np.abs((ramp % 512) - 256).clip(0, 255) for ramp in ramps], axis=-1).astype(np.uint8)


def _self_test(usable: list[str]) -> dict[str, Any]:
    """Take a made clip through the default bundle and back on every usable provider; their latents must agree."""
    results = {}
    first = None
    for name in usable:
        result, latent = _try_provider(name)
        if latent is not None:
            first = latent if first is None else first
            result["difference"] = float(np.abs(latent - first).max())
            if result["difference"] > _DIFFERENCE:
                result["error"] = f"its latents are {result['difference']:.2g} off those of the first provider"
        results[name] = result
    passed = bool(results) and not any(result["error"] for result in results.values())
    return {"bundle": DEFAULT, "passed": passed, "providers": results}


def _try_provider(name: str) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    from vidtok_runtime.tokenizer import Tokenizer

    result: dict[str, Any] = {"error": None, "psnr": None, "difference": None}
    clip = _clip()
    try:
        tok = Tokenizer(provider=name)
        tokens = tok.encode(clip)
        error = np.square(tok.decode(tokens).astype(np.float64) - clip).mean()
    except VidtokError as failure:
        missing = missing_cuda_library() if name == "cuda" else None
        result["error"] = f"{failure}; missing library: {missing}" if missing else str(failure)
        return result, None
    result["psnr"] = float(10 * np.log10(255**2 / max(error, 1e-9)))
    if result["psnr"] < _PSNR:
        result["error"] = f"the test clip comes back with {result['psnr']:.1f} dB only; reinstall the package"
    return result, tokens.data


def missing_cuda_library() -> str | None:
    """Name of the first library that ONNX Runtime's CUDA provider needs and does not find."""
    found = importlib.util.find_spec("onnxruntime")
    folders = found.submodule_search_locations if found else None
    for library in Path(next(iter(folders or ()), "")).glob("capi/libonnxruntime_providers_cuda.so"):
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            match = re.match(r"(\S+): cannot open shared object file", str(error))
            return match[1] if match else None
    return None
