"""The engines tell their makers nothing: no file appears in the home folder, no host is looked up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, time
calls = []
sys.addaudithook(lambda event, args: calls.append((event, args)) if event.startswith("socket.") else None)
import numpy as np
from vidtok_runtime import Tokenizer
from vidtok_runtime.engines.registry import unavailable
assert unavailable(sys.argv[1]) is None
Tokenizer(provider=sys.argv[1], threads=1).encode(np.zeros((5, 16, 16, 3), np.uint8))
time.sleep(1)  # reports are made in threads
assert not calls, calls
"""


def quiet(home: Path, *command: object) -> str:
    """Run it with nothing but an empty home; returns the system's calls of the network, where strace can tell."""
    traced = []
    trace = home.parent / "trace"
    if shutil.which("strace") and not subprocess.run(["strace", "true"], capture_output=True).returncode:
        traced = ["strace", "-f", "-o", trace, "-e", "trace=connect,sendto"]
    environment = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR")}
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    done = subprocess.run(
        [str(word) for word in [*traced, *command]],
        env={**kept, **environment, "VIDTOK_CACHE": "", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return trace.read_text() if traced else ""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_python(provider: str, home: Path) -> None:
    trace = quiet(home, sys.executable, "-c", SCRIPT, provider)
    assert sorted(home.rglob("*")) == []
    assert "connect(" not in trace


def test_export(home: Path) -> None:
    modules = "vidtok_export.quantization.int8, vidtok_export.servers.ovms, vidtok_export.metric"
    quiet(home, sys.executable, "-c", f"import time, {modules}; time.sleep(1)")
    assert [path for path in home.rglob("*") if path.name in ("intel", ".onnxruntime")] == []


def test_openvino_converts_after_it() -> None:
    """What OpenVINO has besides finds nothing missing, and the package that reports is there for others."""
    script = """
import sys
from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.engines.registry import unavailable
assert unavailable("openvino") is None
import openvino, openvino_telemetry
assert len(openvino.convert_model(SHIPPED / "tiny-fsq-32768/encoder.local.onnx").inputs) > 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_node(home: Path) -> None:
    web = Path(__file__).parents[2] / "runtime/web"
    if shutil.which("node") is None or not (web / "node_modules/onnxruntime-node").is_dir():
        pytest.skip("Node or onnxruntime-node is not installed")
    script = f"""
import {{ Tokenizer }} from '{web}/src/index.js'
await Tokenizer.load('{web.parent}/vidtok_runtime/bundles/tiny-fsq-32768', {{ threads: 1 }})
setTimeout(() => {{}}, 1000)
"""
    trace = quiet(home, "node", "--input-type=module", "-e", script)
    assert sorted(home.rglob("*")) == []
    assert "connect(" not in trace
