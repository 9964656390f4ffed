"""Whether there is an NVIDIA GPU: builds of ONNX Runtime for it install and import anywhere."""

from __future__ import annotations

import ctypes
import sys


def no_gpu() -> str | None:
    """Why no GPU can be used, with the cure; None where the driver finds one."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"there is no NVIDIA driver here ({name}); install it, or give --provider cpu"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"the NVIDIA driver finds no GPU (status {status}); see nvidia-smi and CUDA_VISIBLE_DEVICES"
    return None
