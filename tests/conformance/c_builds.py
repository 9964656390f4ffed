"""libvidtok built once for all processes of a run, and where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from c_program import build_library
from cpp_program import bash
from filelock import FileLock


@pytest.fixture(scope="session")
def library() -> Path:
    """The folder of libvidtok that knows ONNX Runtime."""
    return build_library("c", "-DVIDTOK_OPENVINO=OFF")


@pytest.fixture(scope="session")
def prefix(library: Path, shared: Path) -> Path:
    """Where `cmake --install` put it."""
    folder = shared / "prefix"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            bash(f"cmake --install '{library}' --prefix '{folder}'")
    return folder
