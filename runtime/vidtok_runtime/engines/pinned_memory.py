"""Host memory that the GPU reads without a detour through a buffer of the driver's."""

from __future__ import annotations

import ctypes
import functools
import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "cudart64_13.dll", "cudart64_12.dll")


@functools.cache
def _cuda() -> Any:
    """The CUDA runtime that the engine has loaded, if there is one."""
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def pinned_array(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array in pinned memory, or in ordinary memory where CUDA gives none: only speed differs."""
    size = max(1, math.prod(shape) * np.dtype(dtype).itemsize)
    address = ctypes.c_void_p()
    cuda = _cuda()
    if cuda is None or cuda.cudaHostAlloc(ctypes.byref(address), ctypes.c_size_t(size), 0) or not address.value:
        return np.empty(shape, dtype)
    memory = (ctypes.c_ubyte * size).from_address(address.value)
    weakref.finalize(memory, cuda.cudaFreeHost, ctypes.c_void_p(address.value))
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)
