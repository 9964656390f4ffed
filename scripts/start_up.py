"""How soon each embedding has its first tokens, and what it ships; a table for docs/start-up.md.

python scripts/start_up.py            # the C++ program: VIDTOK_CPP, else as cmake builds it in runtime/cpp/build
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
from conformance_runners import NODE_PROGRAM, PROGRAM, WEB, no_cpp, no_module, no_web
from tqdm import tqdm

from vidtok_runtime.bundle.lookup import DEFAULT, SHIPPED
from vidtok_runtime.tools.demo import synthetic_frame

SIZE = 64
PYTHON = ("numpy", "numpy.libs", "av", "av.libs", "cv2", "click", "tqdm")


@dataclass(frozen=True)
class Embedding:
    """A way to run a bundle: the command that encodes (without bundle, clip and tokens), and the files it needs."""

    name: str
    missing: str | None
    command: tuple[str, ...]
    options: tuple[str, ...]
    ships: tuple[Path, ...]

    def call(self, clip: Path, tokens: Path) -> list[str]:
        """The command line for a clip of raw frames."""
        bundle = str(SHIPPED / DEFAULT)
        if self.command[0] == sys.executable:
            raw = ("--raw", f"{SIZE}x{SIZE}", "--bundle", bundle, "-o", str(tokens))
            return [*self.command, str(clip), *raw, *self.options]
        return [*self.command, bundle, str(clip), str(tokens), "--size", f"{SIZE}x{SIZE}", *self.options]


def _site(*names: str) -> tuple[Path, ...]:
    spec = find_spec("numpy")
    assert spec is not None
    assert spec.origin is not None
    return tuple(Path(spec.origin).parents[1] / name for name in names)


def _openvino(*names: str) -> tuple[Path, ...]:
    (folder,) = _site("openvino/libs")
    return tuple(file for name in names for file in folder.glob(f"lib{name}.so*"))


def _linked(library: str) -> tuple[Path, ...]:
    """The file that the C++ program takes for a shared library, as the loader says."""
    said = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True).stdout
    return tuple(Path(line.split()[2]) for line in said.splitlines() if line.strip().startswith(library))


def embeddings() -> list[Embedding]:
    """Every one that this machine might have."""
    python = (sys.executable, "-m", "vidtok_runtime.cli", "encode")
    package = tuple(SHIPPED.parent.rglob("*.py"))
    cpp, node = (PROGRAM, "encode"), ("node", str(NODE_PROGRAM), "encode")
    plugins = _openvino("openvino", "openvino_intel_cpu_plugin", "openvino_onnx_frontend", "tbb")
    native = WEB / "node_modules/onnxruntime-node/bin/napi-v6/linux/x64"
    wasm = tuple((WEB / "node_modules/onnxruntime-web/dist").glob("ort-wasm-simd-threaded.[wm]*"))
    source = tuple((WEB / "src").glob("*.js"))
    return [
        Embedding(
            "Python, ONNX Runtime",
            no_module("onnxruntime"),
            python,
            ("--provider", "cpu", "--threads", "1"),
            (*package, *_site(*PYTHON, "onnxruntime/capi")),
        ),
        Embedding(
            "Python, OpenVINO",
            no_module("openvino"),
            python,
            ("--provider", "openvino", "--threads", "1"),
            (*package, *plugins, *_site(*PYTHON)),
        ),
        Embedding(
            "C++, OpenVINO",
            no_cpp("openvino"),
            cpp,
            ("--provider", "openvino", "--threads", "1"),
            (Path(PROGRAM), *plugins),
        ),
        Embedding(
            "C++, ONNX Runtime",
            no_cpp("cpu"),
            cpp,
            ("--provider", "cpu", "--threads", "1"),
            (Path(PROGRAM), *_linked("libonnxruntime")),
        ),
        Embedding(
            "Node, its CPU engine",
            no_web(NODE_PROGRAM, "onnxruntime-node"),
            node,
            ("--provider", "cpu", "--threads", "1"),
            (*source, native),
        ),
        Embedding(
            "Node, WASM",
            no_web(NODE_PROGRAM, "onnxruntime-web"),
            node,
            ("--provider", "wasm", "--threads", "1"),
            (*source, *wasm),
        ),
    ]


def megabytes(paths: tuple[Path, ...]) -> float:
    """Size of files and folders, each counted once."""
    files = {f.resolve() for path in paths for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file()}
    return sum(f.stat().st_size for f in files) / 1e6


# Starts a program and says how long it took, its peak and its exit code. It is small itself: the peak that a process is
# charged with counts the one that it was started from.
STARTER = """
import os, sys, time
begin = time.perf_counter()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - begin, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""


def measure(call: list[str]) -> tuple[float, float]:
    """Seconds on the clock from the start of a process to its end, and its peak memory in MiB."""
    starter = [sys.executable, "-S", "-E", "-c", STARTER, *call]
    done = subprocess.run(starter, capture_output=True, text=True, check=True)
    seconds, peak, code = done.stdout.splitlines()[-1].split()
    if int(code):
        raise click.ClickException(f"{' '.join(call)} ended with {code}: {done.stderr.strip()}")
    return float(seconds), float(peak)


@click.command()
@click.option("--repeats", default=7, show_default=True, help="Starts of each, in turns; medians are printed.")
def main(repeats: int) -> None:
    """Start every embedding that is here in turns: one frame of 64x64 to a token file, one thread."""
    here = []
    for embedding in embeddings():
        if embedding.missing:
            click.echo(f"left out: {embedding.name}: {embedding.missing}", err=True)
        else:
            here.append(embedding)
    found: dict[str, list[tuple[float, float]]] = {e.name: [] for e in here}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.rgb"
        np.ascontiguousarray(synthetic_frame(0, SIZE, SIZE)).tofile(clip)
        turns = [(i, e) for i in range(repeats + 1) for e in here]  # the first fills caches
        for i, embedding in tqdm(turns, unit="start"):
            call = embedding.call(clip, Path(folder) / f"{embedding.name}-{i}.safetensors")
            if i:
                found[embedding.name].append(measure(call))
            else:
                measure(call)
    click.echo("| embedding | ships | start to tokens | peak memory |\n|---|---|---|---|")
    for e in here:
        seconds, memory = (statistics.median(column) for column in zip(*found[e.name], strict=True))
        click.echo(f"| {e.name} | {megabytes(e.ships):.0f} MB | {seconds:.2f} s | {memory:.0f} MiB |")


if __name__ == "__main__":
    main()
