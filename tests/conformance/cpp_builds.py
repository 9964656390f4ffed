"""The builds of the C++ runtime, made once, and a clip for them."""

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

from vidtok_runtime.tools.demo import synthetic_frame


@pytest.fixture(scope="session")
def plain() -> Build:
    needs_tools()
    bash(BUILD_PLAIN)
    return Build(BUILD)


@pytest.fixture(scope="session")
def sanitized() -> Build:
    needs_tools()
    *make, _ = SANITIZED.strip().splitlines()
    bash("\n".join(make))
    return Build(BUILD / "sanitized")


@pytest.fixture(scope="session")
def ort() -> Build:
    """ONNX Runtime, where its C++ headers are."""
    needs_tools()
    root = Path(os.environ.get("ONNXRUNTIME_ROOT", "/usr"))
    if not list(root.glob("include/**/onnxruntime_cxx_api.h")):
        pytest.skip("ONNX Runtime's C++ headers are not here; set ONNXRUNTIME_ROOT to a folder with include and lib")
    bash(
        f"cmake -S runtime/cpp -B runtime/cpp/build/ort -DVIDTOK_OPENVINO=OFF -DVIDTOK_ONNXRUNTIME=ON "
        f"-DONNXRUNTIME_ROOT='{root}'\ncmake --build runtime/cpp/build/ort"
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
