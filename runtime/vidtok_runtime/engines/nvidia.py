"""Whether there is an NVIDIA GPU: builds of ONNX Runtime for it install and import anywhere."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys


def no_gpu() -> str | None:
    """Why no GPU can be used, with the cure; None where there is one, or nothing that could tell.

    NVIDIA's management library is asked, as CUDA cannot be used in forked processes once it has been started.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU; unset it, or give --provider cpu"
    management = _library("libnvidia-ml.so.1", "nvml.dll")
    if management is None:  # as on Jetson
        driver = _library("libcuda.so.1", "nvcuda.dll")
        return None if driver else "there is no NVIDIA driver here; install it, or give --provider cpu"
    count = ctypes.c_uint()
    status = management.nvmlInit_v2() or management.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if status or not count.value:
        return f"the NVIDIA driver finds no GPU (status {status}); see nvidia-smi, or give --provider cpu"
    return None


def _library(linux: str, windows: str) -> ctypes.CDLL | None:
    with contextlib.suppress(OSError):
        return ctypes.CDLL(windows if sys.platform == "win32" else linux)
    return None
