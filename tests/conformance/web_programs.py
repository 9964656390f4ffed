"""Programs of runtime/web that tests start: Node's, and those that drive a headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtok_runtime.tokens.tokens import Tokens

WEB = Path(__file__).parents[2] / "runtime/web"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""


def _needs(lacking: dict[str, bool]) -> pytest.MarkDecorator:
    """Skips where something is lacking, and says so."""
    reason = next((reason for reason, missing in lacking.items() if missing), "")
    return pytest.mark.skipif(bool(reason), reason=reason)


def _absent() -> list[str]:
    """Packages of package.json that npm has not put into node_modules."""
    package = json.loads((WEB / "package.json").read_text())
    named = package["dependencies"] | package["devDependencies"]
    return [name for name in named if not (WEB / "node_modules" / name).is_dir()]


_NODE = {
    "node is not installed": not shutil.which("node"),
    "runtime/web/node_modules is not whole: ONNXRUNTIME_NODE_INSTALL=skip npm ci in runtime/web": bool(_absent()),
}
needs_node = _needs(_NODE)
needs_chromium = _needs({**_NODE, "there is no Chromium; install it (chromium) or name it in $CHROMIUM": not CHROMIUM})


def run_node(*args: object, cwd: Path = WEB) -> str:
    """What a Node program prints; raises AssertionError with what it says on stderr."""
    done = subprocess.run(["node", *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def drive(script: str, *args: object, seconds: float = 600) -> Any:
    """What a script of runtime/web/chromium finds; it fails on errors of the page and on requests to elsewhere."""
    # Node 20 was seen to wait forever for its garbage collector's other threads.
    command = ["node", "--single-threaded-gc", str(WEB / "chromium" / script), *map(str, args)]
    result = subprocess.run(
        command, env={**os.environ, "CHROMIUM": CHROMIUM}, capture_output=True, text=True, timeout=seconds
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def drive_on_gpu(script: str, *args: object, seconds: float = 270) -> Any:
    """The same, skipped where this Chromium does not start the software adapter that the script asks for.

    Such an adapter was seen to spin forever, once in many runs: what takes longer than `seconds` has a second try.
    """
    try:
        try:
            return drive(script, *args, seconds=seconds)
        except subprocess.TimeoutExpired:
            return drive(script, *args, seconds=seconds)
    except AssertionError as error:
        if "this browser offers no graphics adapter" not in str(error):
            raise
        pytest.skip("this Chromium does not start its software adapter (SwiftShader)")


def convert(address: str, folder: Path, fields: dict[str, object], *sources: object) -> tuple[dict[str, Any], Tokens]:
    """What the page says, and its token file; `folder` gets frames.rgb, the frames that it used, and video.mp4."""
    texts = json.dumps({name: str(value) for name, value in fields.items()})
    said: dict[str, Any] = drive_on_gpu("convert.mjs", address, folder, texts, *sources)
    return said, Tokens.load(folder / "tokens.safetensors")


def check_tokens(found: Tokens, wanted: Tokens, provider: str = "wasm") -> None:
    """What the page made is what Python makes of the same frames."""
    assert found.data.shape == wanted.data.shape
    assert found.info.provider == provider
    for name in ("family", "name", "weights_sha256", "num_frames", "height", "width", "fps", "codebook_size"):
        assert getattr(found.info, name) == getattr(wanted.info, name), name
    if found.data.dtype == np.int32:
        assert np.mean(found.data != wanted.data) <= 1e-4
    else:
        np.testing.assert_allclose(found.data, wanted.data, atol=1e-3)
