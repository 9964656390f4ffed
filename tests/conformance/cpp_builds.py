"""The builds of the C++ runtime, made once for all processes of a run, and a clip for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_program import find_headers, find_onnxruntime, headers, onnxruntime
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


def with_onnxruntime() -> str:
    """Options of CMake for ONNX Runtime's headers and the library of its Python package, where both are here."""
    root, library = find_headers(), find_onnxruntime()
    if root is None or library is None:
        return ""
    name = BUILD / "lib/libonnxruntime.so.1"  # by which programs look for it
    if not name.exists() or not name.samefile(library):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        name.symlink_to(library)
    return f"-DVIDTOK_ONNXRUNTIME=ON -DONNXRUNTIME_ROOT='{root}' -DONNXRUNTIME_LIBRARY='{name}'"


@pytest.fixture(scope="session")
def openvino(shared: Path) -> Build:
    """By the commands of docs/cpp.md; it has ONNX Runtime, too, where that is here."""
    needs_tools()
    with FileLock(shared / "cpp.lock"):
        bash(BUILD_PLAIN.replace("-S runtime/cpp", f"-S runtime/cpp {with_onnxruntime()}"), **QUICK)
    return Build(BUILD)


@pytest.fixture(scope="session")
def cpu(openvino: Build) -> Build:
    headers()
    onnxruntime()
    return replace(openvino, provider="cpu")


@pytest.fixture(scope="session")
def plain(openvino: Build) -> Build:
    """For what does not depend on the engine: with the one that starts in less time."""
    return replace(openvino, provider="cpu") if find_headers() and find_onnxruntime() else openvino


@pytest.fixture(scope="session")
def sanitized(shared: Path) -> Build:
    needs_tools()
    *make, _ = SANITIZED.strip().splitlines()
    with FileLock(shared / "cpp-sanitized.lock"):
        bash("\n".join(make))
    return Build(BUILD / "sanitized")


SANITIZERS = pytest.param("sanitized", marks=pytest.mark.slow)


@pytest.fixture(params=["openvino", "cpu", SANITIZERS])
def build(request: pytest.FixtureRequest) -> Build:
    """Each engine."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["plain", SANITIZERS])
def either(request: pytest.FixtureRequest) -> Build:
    """For what does not depend on the engine, but on our own memory."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([synthetic_frame(4 * i, HEIGHT, WIDTH) for i in range(FRAMES)])


@pytest.fixture(scope="module")
def raw(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "clip.rgb"
    pixels.tofile(path)
    return path
