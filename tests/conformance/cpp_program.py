"""The C++ program as tests use it: built by the commands of docs/cpp.md, called, and its files looked at."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from cases import KIT

from vidtok_runtime.bundle.lookup import find_bundle

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/cpp.md").read_text()
BUILD = ROOT / "runtime/cpp/build"
FSQ, KL = find_bundle("tiny-fsq-32768").folder, find_bundle("tiny-kl-16chn").folder
HEIGHT, WIDTH, FRAMES = 37, 51, 21


def snippets(language: str) -> list[str]:
    """The code blocks of docs/cpp.md in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


BUILD_PLAIN, USE, INSTALL, CONFORM, SANITIZED = snippets("bash")


def environment(**more: str) -> dict[str, str]:
    """As a user's, with this Python as `python`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CMAKE_BUILD_PARALLEL_LEVEL": "2", **more}


def bash(lines: str, where: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=where, env=environment(**more), capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, f"{lines}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def needs_tools() -> None:
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    openvino = pytest.importorskip("openvino")
    if not (Path(openvino.__path__[0]) / "cmake/OpenVINOConfig.cmake").is_file():
        pytest.skip("this OpenVINO package has no CMake files")


@dataclass(frozen=True)
class Build:
    """A folder of built programs and the provider to run."""

    folder: Path
    provider: str = "openvino"

    def run(self, *args: object, code: int = 0) -> str:
        """What the program says; one line if it fails."""
        words = [str(a) for a in args]
        if words[0] in ("encode", "decode"):
            words += ["--provider", self.provider, "--threads", "1"]
        done = subprocess.run(
            [self.folder / "vidtok", *words],
            env=environment(TBB_ENABLE_SANITIZERS="1"),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
        assert done.returncode == code, (words, done.returncode, done.stderr[-3000:])
        if code:
            assert re.fullmatch(r"vidtok: [^\n]+\n", done.stderr), done.stderr
            assert done.stdout == ""
        return done.stderr if code else done.stdout

    def conform(self, cases: Path = KIT / "cases.json", *tile: int) -> list[str]:
        """A line for each case of a kit; tile: pixels of the largest."""
        done = subprocess.run(
            [self.folder / "vidtok_tests", "conformance", cases, self.provider, *map(str, tile)],
            env=environment(TBB_ENABLE_SANITIZERS="1"),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()


def encode(build: Build, raw: Path, out: Path, *more: object, bundle: Path = FSQ) -> Path:
    build.run("encode", bundle, raw, out, "--size", f"{WIDTH}x{HEIGHT}", "--fps", 25, *more)
    return out


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]


def y4m(path: Path, pixels: np.ndarray, kind: str) -> Path:
    """A Y4M file by FFmpeg."""
    with av.open(str(path), "w", format="yuv4mpegpipe") as file:
        stream: Any = file.add_stream("wrapped_avframe", rate=Fraction(30000, 1001))
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = kind
        for i, picture in enumerate(pixels):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=kind, dst_colorspace="ITU601")
            frame.pts, frame.time_base = i, Fraction(1001, 30000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path
