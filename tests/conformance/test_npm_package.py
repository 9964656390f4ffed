"""The npm package: what is in it, and that it works from an empty folder in Node, with Vite and in a plain page."""

from __future__ import annotations

import functools
import http.server
import json
import os
import posixpath
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_files import make
from web_programs import WEB, drive, needs_chromium, needs_node

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.lookup import SHIPPED

APP = Path(__file__).parent / "npm_app"
VITE = "vite@8.4.0"
PACKAGE = json.loads((WEB / "package.json").read_text())
MEDIABUNNY = f"mediabunny@{PACKAGE['devDependencies']['mediabunny']}"
IMPORTED = re.compile(r"(?:^(?:import|export) [^']*from |\bimport\()'([^'\n]+)'", re.MULTILINE)
pytestmark = needs_node


def npm(*args: str, cwd: Path) -> str:
    """What npm prints; skips where no registry answers."""
    environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"}
    done = subprocess.run(["npm", *args], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode and re.search("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED", done.stderr):
        pytest.skip("the packages of npm cannot be reached")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_packed() -> None:
    (packed,) = json.loads(npm("pack", "--dry-run", "--json", "--ignore-scripts", cwd=WEB))
    files = {entry["path"] for entry in packed["files"]}
    wanted = {path.relative_to(WEB).as_posix() for folder in ("bin", "src") for path in (WEB / folder).rglob("*.*")}
    assert files == wanted | {"LICENSE", "README.md", "package.json"}
    assert (WEB / "LICENSE").read_bytes() == (WEB.parents[1] / "LICENSE").read_bytes()

    exported = [path for entry in PACKAGE["exports"].values() if isinstance(entry, dict) for path in entry.values()]
    named = {*PACKAGE["browser"], *PACKAGE["bin"].values(), *exported}
    assert {name.removeprefix("./") for name in named} <= files
    for name in files & wanted:
        for found in IMPORTED.findall((WEB / name).read_text()):
            if found.startswith("."):
                assert posixpath.normpath(f"{posixpath.dirname(name)}/{found}") in files, (name, found)
            elif not found.startswith("node:"):
                assert found.split("/")[0] in PACKAGE["dependencies"] | PACKAGE["peerDependencies"], (name, found)


def test_only_one_file_is_for_node() -> None:
    """What bundlers for browsers leave out."""
    imports = {path.name: IMPORTED.findall(path.read_text()) for path in (WEB / "src").rglob("*.js")}
    for_node = {file for file, names in imports.items() for name in names if re.match("node:|onnxruntime-node", name)}
    assert for_node == {"node.js"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and Vite from a registry, and nothing of the checkout but a bundle and the app."""
    folder = tmp_path_factory.mktemp("npm") / "app"
    shutil.copytree(APP, folder)
    shutil.copytree(SHIPPED / "tiny-fsq-32768", folder / "public/tiny-fsq-32768")
    make(folder / "public/clip.mkv")
    (folder / "package.json").write_text('{ "private": true, "type": "module" }')
    name = npm("pack", "--silent", "--pack-destination", str(folder), cwd=WEB).strip()
    npm("install", "--prefer-offline", "--no-audit", "--no-fund", f"./{name}", VITE, MEDIABUNNY, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def tokens(app: Path) -> list[int]:
    """Python's, of the app's clip."""
    video = (np.arange(5 * 32 * 48 * 3) % 251).astype(np.uint8).reshape(5, 32, 48, 3)
    indices: list[int] = Tokenizer(SHIPPED / "tiny-fsq-32768", "cpu", threads=1).encode(video).data.ravel().tolist()
    return indices


@contextmanager
def running(*command: str, cwd: Path) -> Iterator[str]:
    """The address that a server prints."""
    plain = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True, env=plain) as server:
        assert server.stdout is not None
        try:
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()


@pytest.mark.slow
def test_in_node(app: Path, tokens: list[int]) -> None:
    done = subprocess.run(["node", "node.js"], cwd=app, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"cpu": tokens}
    told = subprocess.run(["node_modules/.bin/vidtok", "--help"], cwd=app, capture_output=True, text=True, check=True)
    assert told.stdout.startswith("usage: vidtok encode")


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("mode", ["built", "served from source"])
def test_with_vite(app: Path, tokens: list[int], mode: str) -> None:
    vite = ("node", "node_modules/vite/bin/vite.js")
    if mode == "built":
        done = subprocess.run([*vite, "build"], cwd=app, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "externalized" not in done.stdout + done.stderr
        assets = [path.name for path in (app / "dist/assets").iterdir()]
        assert len([name for name in assets if name.endswith(".wasm")]) == 2, assets  # WASM and WebGPU, each once
        vite = (*vite, "preview")
    with running(*vite, "--host", "127.0.0.1", "--port", "0", cwd=app) as address:
        found = drive("visit.mjs", f"{address}?webgpu", "webgpu")
    assert found["wasm in a worker"] == tokens
    times = {"timeBase": "1/1000", "pts": [40 * i for i in range(12)]}
    assert found["video"] == {"codec": "H.264", "size": [32, 48], **times}
    assert np.mean(np.not_equal(found["webgpu"], tokens)) <= 0.01


class _Isolated(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.mark.slow
@needs_chromium
def test_in_a_plain_page(app: Path, tokens: list[int]) -> None:
    handler = functools.partial(_Isolated, directory=str(app))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            found = drive("visit.mjs", f"http://127.0.0.1:{server.server_port}/plain.html")
        finally:
            server.shutdown()
    assert found == {"page": tokens, "worker": tokens, "pts": [40 * i for i in range(12)]}


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [("nodenext", "nodenext"), ("es2022", "bundler")])
def test_its_types(app: Path, resolution: tuple[str, str]) -> None:
    tsc = WEB / "node_modules/typescript/bin/tsc"
    module, kind = resolution
    options = ("--module", module, "--moduleResolution", kind)
    # mediabunny's types of WebCodecs and TypeScript's own do not agree.
    video = ("--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "types_of_video.ts")
    for what in (("-p", "."), video):
        done = subprocess.run(["node", tsc, *what, *options], cwd=app, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
