"""The runtimes that scripts/conformance_table.py compares; each runs all cases of a kit, with files in a folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vidtok_runtime.bundle.lookup import DEFAULT, SHIPPED, shipped_names
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.tokens.tokens import Tokens

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests/conformance"))
from cases import Case  # noqa: E402

WEB = ROOT / "runtime/web"
NODE_PROGRAM = WEB / "bin/vidtok.mjs"
PROGRAM = os.environ.get("VIDTOK_CPP", str(ROOT / "runtime/cpp/build/vidtok"))  # as cmake builds it
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "chromium"
# Of every case the tokens of its clip, and the frames of its tokens in float32.
Results = Iterator[tuple[NDArray[Any], NDArray[Any]]]
Run = Callable[[list[Case], Path], Results]


@dataclass(frozen=True)
class Runner:
    """A runtime; `missing` says why it is not here, None when it is."""

    name: str
    missing: str | None
    run: Run


def in_process(provider: str) -> Run:
    """The package itself on one of its engines."""

    def run(cases: list[Case], folder: Path) -> Results:
        for case in cases:
            tok = Tokenizer(case.bundle, provider, threads=1)
            yield tok.encode(case.read_input()).data, tok.decode(case.read_tokens(), "float32")

    return run


def _call(*command: str | Path) -> None:
    """Run a command that may say something only if it fails; raises CalledProcessError."""
    environment = {**os.environ, "CHROMIUM": CHROMIUM}
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)


def program(*command: str, options: tuple[str, ...] = ()) -> Run:
    """A program called as `encode BUNDLE CLIP.rgb TOKENS --size WxH` and `decode BUNDLE TOKENS CLIP.f32`."""

    def run(cases: list[Case], folder: Path) -> Results:
        for case in cases:
            tokens, video = folder / f"{case.name}.safetensors", folder / f"{case.name}.f32"
            _, height, width = case.size
            size = ("--size", f"{width}x{height}")
            _call(*command, "encode", case.bundle, case.input, tokens, *size, *options)
            _call(*command, "decode", case.bundle, case.tokens, video, *options)
            yield Tokens.load(tokens).data, case.read_frames(video)

    return run


def chromium(provider: str) -> Run:
    """The page of `vidtok-run serve` in a headless Chromium, which `runtime/web/chromium/kit.mjs` drives."""

    def run(cases: list[Case], folder: Path) -> Results:
        bundles = {case.bundle for case in cases if case.bundle.name not in shipped_names()}
        serve = [sys.executable, "-m", "vidtok_runtime.cli", "serve", *map(str, sorted(bundles)), "--port", "0"]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                address = server.stdout.readline().split()[0]
                _call("node", WEB / "chromium/kit.mjs", address, cases[0].input.parent, folder, provider)
            finally:
                server.terminate()
        for case in cases:
            first = folder / f"{case.name}.0"  # of the first chunking
            tokens, video = first.with_name(f"{first.name}.safetensors"), first.with_name(f"{first.name}.f32")
            yield Tokens.load(tokens).data, case.read_frames(video)

    return run


def no_module(name: str) -> str | None:
    """Why a runtime that needs a Python module is not here."""
    return None if importlib.util.find_spec(name) else f"the Python package {name} is not installed"


def no_program(path: str) -> str | None:
    """Why a runtime that is a program is not here."""
    return None if shutil.which(path) else f"there is no program {Path(path).name}"


def no_cpp(provider: str) -> str | None:
    """Why an engine of the C++ program is not here: the program itself says so."""
    if reason := no_program(PROGRAM):
        return f"{reason}; build runtime/cpp, or name it in VIDTOK_CPP"
    call = [PROGRAM, "encode", SHIPPED / DEFAULT, "no-clip.rgb", "no.safetensors", "--provider", provider]
    said = subprocess.run(call, stderr=subprocess.PIPE, text=True).stderr
    return "the program was built without this engine" if "not built in" in said else None


def no_web(script: Path, *packages: str) -> str | None:
    """Why a runtime of `runtime/web` is not here."""
    for needed in (script, *(WEB / "node_modules" / name for name in packages)):
        if not needed.exists():
            return f"{needed.relative_to(ROOT)} is missing"
    return no_program("node")


_NO_CHROMIUM = no_web(WEB / "chromium/kit.mjs", "onnxruntime-web", "playwright-core") or no_program(CHROMIUM)
RUNNERS = [
    Runner("ONNX Runtime", no_module("onnxruntime"), in_process("cpu")),
    Runner("OpenVINO", no_module("openvino"), in_process("openvino")),
    Runner("C++, OpenVINO", no_cpp("openvino"), program(PROGRAM, options=("--provider", "openvino"))),
    Runner("C++, ONNX Runtime", no_cpp("cpu"), program(PROGRAM, options=("--provider", "cpu"))),
    Runner("Node", no_web(NODE_PROGRAM, "onnxruntime-node"), program("node", str(NODE_PROGRAM))),
    Runner("Chromium, WASM", _NO_CHROMIUM, chromium("wasm")),
    Runner("Chromium, WebGPU", _NO_CHROMIUM, chromium("webgpu")),
]
