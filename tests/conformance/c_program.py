"""libvidtok as tests build it, where ONNX Runtime's headers and library are, and programs that code the kit with it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from cases import Case
from cpp_program import BUILD, ROOT, bash, environment
from filelock import FileLock

CPP = ROOT / "runtime/cpp"
PAGE_C = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/c-api.md").read_text(), re.DOTALL)  # headers, build, use
NATIVE = ROOT / "runtime/web/node_modules/onnxruntime-node/bin/napi-v6"


def needs(*tools: str) -> None:
    """Skip where a program is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def find_headers() -> Path | None:
    """The folder above ONNX Runtime's headers."""
    for root in (os.environ.get("ONNXRUNTIME_ROOT"), BUILD / "onnxruntime/usr", "/usr"):
        if root and list(Path(root).glob("include/**/onnxruntime_cxx_api.h")):
            return Path(root)
    return None


def find_onnxruntime() -> Path | None:
    """The library of ONNX Runtime inside its Python package."""
    spec = importlib.util.find_spec("onnxruntime")
    found = Path(spec.origin).parent.glob("capi/libonnxruntime.so.*") if spec and spec.origin else iter(())
    return next(found, None)


def headers() -> Path:
    """As `find_headers`; skips where there are none."""
    if (found := find_headers()) is None:
        pytest.skip("ONNX Runtime's headers are not here; scripts/test_tools.sh gets them, or set ONNXRUNTIME_ROOT")
    return found


def onnxruntime() -> Path:
    """As `find_onnxruntime`; skips where it is not installed."""
    if (found := find_onnxruntime()) is None:
        pytest.skip("the Python package onnxruntime is not installed, or has no library of its own")
    return found


def build_library(name: str, *options: str, **variables: str) -> Path:
    """A folder with libvidtok, built once for all processes of a run; options: of CMake; variables: environment."""
    needs("cmake")
    folder = BUILD / name
    words = " ".join(["-DVIDTOK_C=ON -DVIDTOK_PROGRAMS=OFF", f"-DONNXRUNTIME_ROOT='{headers()}'", *options])
    with FileLock(f"{folder}.lock"):
        bash(
            f"cmake -S '{CPP}' -B '{folder}' -DCMAKE_BUILD_TYPE=Test {words}\ncmake --build '{folder}'",
            **{"CXXFLAGS": os.environ.get("CXXFLAGS", "-O1"), **variables},
        )
    return folder


@dataclass(frozen=True)
class Coder:
    """A program that is called as runtime/cpp/c/examples/coder.c, on this system or another."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    name_of: Callable[[Path], str] = str  # a file's name on that system

    def run(self, *words: object, code: int = 0) -> str:
        """What it says on stderr."""
        given = [self.name_of(word) if isinstance(word, Path) else str(word) for word in words]
        done = subprocess.run(
            [*self.command, *given],
            env=environment(**self.environment),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=1500,
        )
        assert done.returncode == code, (given, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stderr

    def check(self, case: Case, folder: Path) -> None:
        """Tokens, token file and frames of a case, pushed in pieces of two lengths."""
        frames, height, width = case.size
        for chunk in sorted({1, frames}):
            tokens, video = folder / f"{chunk}.safetensors", folder / f"{chunk}.f32"
            self.run("encode", case.bundle, case.input, tokens, width, height, case.fps.numerator, chunk)
            case.check_token_file(tokens)
            self.run("decode", case.bundle, case.tokens, video, chunk)
            case.check_video(np.fromfile(video, "<f4").reshape(*case.size, 3))
