"""The builds of the C++ runtime, made once for all processes of a run, and a clip for them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from cpp_program import (
    BUILD,
    BUILD_PLAIN,
    FRAMES,
    HEIGHT,
    SANITIZED,
    WIDTH,
    Build,
    bash,
    needs_tools,
)
from filelock import FileLock

from vidtok_runtime.tools.demo import synthetic_frame

# A release takes a compiler twice as long; a folder that was built before keeps its type.
QUICK = {"CMAKE_BUILD_TYPE": "Test", "CXXFLAGS": "-O1"}


@pytest.fixture(scope="session")
def plain(shared: Path) -> Build:
    needs_tools()
    with FileLock(shared / "cpp.lock"):
        bash(BUILD_PLAIN, **QUICK)
    return Build(BUILD)


@pytest.fixture(scope="session")
def sanitized(shared: Path) -> Build:
    needs_tools()
    *make, _ = SANITIZED.strip().splitlines()
    with FileLock(shared / "cpp-sanitized.lock"):
        bash("\n".join(make))
    return Build(BUILD / "sanitized")


@pytest.fixture(scope="session")
def ort(shared: Path) -> Build:
    """ONNX Runtime, where its C++ headers are."""
    needs_tools()
    root = Path(os.environ.get("ONNXRUNTIME_ROOT", "/usr"))
    if not list(root.glob("include/**/onnxruntime_cxx_api.h")):
        pytest.skip("ONNX Runtime's C++ headers are not here; set ONNXRUNTIME_ROOT to a folder with include and lib")
    with FileLock(shared / "cpp-ort.lock"):
        bash(
            f"cmake -S runtime/cpp -B runtime/cpp/build/ort -DVIDTOK_OPENVINO=OFF -DVIDTOK_ONNXRUNTIME=ON "
            f"-DONNXRUNTIME_ROOT='{root}'\n"
            "cmake --build runtime/cpp/build/ort --target vidtok_program vidtok_conformance",
            **QUICK,
        )
    return Build(BUILD / "ort", "cpu")


@pytest.fixture(params=["plain", pytest.param("sanitized", marks=pytest.mark.slow), "ort"])
def build(request: pytest.FixtureRequest) -> Build:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([synthetic_frame(4 * i, HEIGHT, WIDTH) for i in range(FRAMES)])


@pytest.fixture(scope="module")
def raw(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "clip.rgb"
    pixels.tofile(path)
    return path
