"""Triton Inference Server as tests start it: on a model repository, at ports of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest

COMMAND = os.environ.get("VIDTOK_TRITONSERVER") or str(Path(__file__).parents[1] / "build/triton/tritonserver")
DTYPES = {"uint8": "UINT8", "int32": "INT32", "float32": "FP32"}


def protocol(name: str) -> ModuleType:
    """`tritonclient.http` or `tritonclient.grpc`; skips where it is not installed."""
    return pytest.importorskip(f"tritonclient.{name}", exc_type=ImportError)


class TritonServer:
    """A running server; `log` is what it says."""

    def __init__(self, repository: Path, log: Path, *options: str) -> None:
        if shutil.which(COMMAND) is None:
            pytest.skip("there is no Triton: scripts/triton_server.sh gets it, or name it in VIDTOK_TRITONSERVER")
        self._log = log
        self.ports = {"http": _free_port(), "grpc": _free_port()}
        self._command = [COMMAND, f"--model-repository={repository}", "--allow-metrics=false", *options]
        for name, port in self.ports.items():
            self._command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it has tried to load every model."""
        with self._log.open("a") as file:
            self.process = subprocess.Popen(self._command, stdout=file, stderr=subprocess.STDOUT)
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports["http"]), 1):
                return
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit code. What runs its models ends with it, as in a container."""
        models = psutil.Process(self.process.pid).children()
        self.process.send_signal(number)
        code = self.process.wait()
        for model in models:
            with contextlib.suppress(psutil.NoSuchProcess):
                model.kill()
        return code

    @property
    def log(self) -> str:
        return self._log.read_text()

    def client(self, name: str = "grpc") -> Any:
        """A client by a protocol, http or grpc."""
        return protocol(name).InferenceServerClient(f"127.0.0.1:{self.ports[name]}")

    def stub(self, model: str) -> psutil.Process:
        """The process that a model runs in."""
        (found,) = (p for p in psutil.Process(self.process.pid).children() if f"/{model}/" in " ".join(p.cmdline()))
        return found


@contextlib.contextmanager
def running(repository: Path, log: Path, *options: str) -> Iterator[TritonServer]:
    """A server that ends with the block."""
    server = TritonServer(repository, log, *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


class Sequence:
    """A sequence of requests to a model: `send(data, end=True)` ends it."""

    def __init__(self, client: Any, model: str, key: int | str, **parameters: Any) -> None:
        self.client, self._model, self.key, self._parameters = client, model, key, parameters
        self._module = protocol("http" if "http" in type(client).__module__ else "grpc")
        self._begun = False

    def send(self, data: np.ndarray, *, end: bool = False) -> np.ndarray:
        """What the answer to these frames or tokens holds; raises InferenceServerException."""
        name = "frames" if self._model.endswith("encoder") else "tokens"
        given = self._module.InferInput(name, list(data.shape), DTYPES[str(data.dtype)])
        given.set_data_from_numpy(data)
        flags: dict[str, Any] = {"sequence_id": self.key, "sequence_start": not self._begun, "sequence_end": end}
        if not self._begun and self._parameters:
            flags["parameters"] = self._parameters
        self._begun = True
        found = self.client.infer(self._model, [given], **flags)
        return np.array(found.as_numpy("tokens" if name == "frames" else "frames"))

    def send_all(self, data: np.ndarray, sizes: list[int]) -> np.ndarray:
        """The answers to data in pieces of these sizes, as one array."""
        pieces = np.split(data, list(itertools.accumulate(sizes[:-1])))
        out = [self.send(piece, end=i == len(sizes)) for i, piece in enumerate(pieces, 1)]
        return np.concatenate([answer for answer in out if len(answer)])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
