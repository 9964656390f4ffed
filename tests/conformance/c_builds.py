"""libvidtok built and installed by the commands of docs/c-api.md, once for all processes of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from c_program import PAGE_C, headers, needs
from cpp_builds import QUICK
from cpp_program import BUILD, bash
from filelock import FileLock


@pytest.fixture(scope="session")
def prefix(shared: Path) -> Path:
    """Where it is installed."""
    needs("cmake", "g++")
    folder = shared / "prefix"
    lines = PAGE_C[1].replace('"$PWD/runtime/cpp/build/onnxruntime/usr"', f"'{headers()}'")
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            bash(lines, PREFIX=str(folder), **QUICK)
    return folder


@pytest.fixture(scope="session")
def library(prefix: Path) -> Path:
    """The folder of the build, of a library that knows ONNX Runtime alone."""
    return BUILD / "c"
