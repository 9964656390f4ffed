"""Programs of runtime/web that tests start: Node's, and those that drive a headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).parents[2] / "runtime/web"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""


def _needs(lacking: dict[str, bool]) -> pytest.MarkDecorator:
    """Skips where something is lacking, and says so."""
    reason = next((reason for reason, missing in lacking.items() if missing), "")
    return pytest.mark.skipif(bool(reason), reason=reason)


_NODE = {
    "node is not installed": not shutil.which("node"),
    "runtime/web/node_modules is missing: ONNXRUNTIME_NODE_INSTALL=skip npm ci in runtime/web": not (
        WEB / "node_modules/onnxruntime-node"
    ).is_dir(),
}
needs_node = _needs(_NODE)
needs_chromium = _needs({**_NODE, "there is no Chromium; install it (chromium) or name it in $CHROMIUM": not CHROMIUM})


def run_node(*args: object, cwd: Path = WEB) -> str:
    """What a Node program prints; raises AssertionError with what it says on stderr."""
    done = subprocess.run(["node", *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def drive(script: str, *args: object) -> Any:
    """What a script of runtime/web/chromium finds; it fails on errors of the page and on requests to elsewhere."""
    # Node 20 was seen to wait forever for its garbage collector's other threads.
    command = ["node", "--single-threaded-gc", str(WEB / "chromium" / script), *map(str, args)]
    result = subprocess.run(
        command, env={**os.environ, "CHROMIUM": CHROMIUM}, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
