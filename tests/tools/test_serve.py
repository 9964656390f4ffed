"""`vidtok-run serve`: what is served, to whom, and nothing else."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.cli import main
from vidtok_runtime.errors import BundleError, ServerError
from vidtok_runtime.tools import web_server as serve

WEB = Path(serve.__file__).parents[2] / "web"
PACKAGES = json.loads((WEB / "page/packages.json").read_text())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the names of the files of the page's packages."""
    folder = tmp_path_factory.mktemp("engine")
    for row in PACKAGES.values():
        for name in row["files"]:
            (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def server(engine: Path) -> Iterator[serve.Server]:
    with serve.Server("127.0.0.1", 0, serve.site((), engine)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: serve.Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), body


def test_page_module_engine_and_bundles_are_served(server: serve.Server) -> None:
    for path, kind in (
        ("/page/index.html", "text/html; charset=utf-8"),
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/src/index.js", "text/javascript; charset=utf-8"),
        ("/npm/ort-wasm-simd-threaded.wasm", "application/wasm"),
        ("/bundles/tiny-fsq-32768/manifest.json", "application/json"),
        ("/bundles/tiny-fsq-32768/encoder.local.onnx?x=1", "application/octet-stream"),
    ):
        status, headers, body = ask(server, path)
        assert (status, headers["Content-Type"], len(body)) == (200, kind, int(headers["Content-Length"])), path
        status, head, body = ask(server, path, "HEAD")
        assert (status, head["Content-Length"], body) == (200, headers["Content-Length"], b"")
    assert body == b""
    sent = ask(server, "/bundles/tiny-fsq-32768/encoder.local.onnx")[2]
    assert sent == (SHIPPED / "tiny-fsq-32768/encoder.local.onnx").read_bytes()
    assert json.loads(ask(server, "/bundles.json")[2]) == ["tiny-fsq-32768", "tiny-kl-16chn"]
    status, headers, _ = ask(server, "/")
    assert (status, headers["Location"]) == (302, "/page/index.html")


def test_every_file_that_the_page_names_is_served(server: serve.Server) -> None:
    def named(path: str) -> set[str]:
        text = ask(server, path)[2].decode()
        found = re.findall(r"""(?:from|src=|href=|new URL\()\s*["']([\w./]+\.(?:js|css|svg))["']""", text)
        return {str(Path("/", path, "..", name).resolve()) for name in found}

    seen, left = set(), {"/page/index.html"}
    while left:
        path = left.pop()
        assert ask(server, path)[0] == 200, path
        seen.add(path)
        left |= named(path) - seen if path.endswith((".html", ".js")) else set()
    assert {"/page/worker.js", "/page/style.css", "/src/index.js"} <= seen
    pages = {p for p in server.pages if p.startswith("/page/")}
    assert pages - seen == {"/page/packages.json"}  # nothing that the page does not use


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/bundles",
        "/bundles/tiny-fsq-32768/",
        "/bundles/tiny-fsq-32768/README.md",
        "/bundles/tiny-fsq-32768/tiny-fsq-32768.safetensors",
        "/page/../../../pyproject.toml",
        "/page/%2e%2e/%2e%2e/package.json",
        "//etc/passwd",
        "/page/index.html%00",
        "/../serve.py",
        "*",
    ],
)
def test_nothing_else_is_served(server: serve.Server, path: str) -> None:
    status, headers, body = ask(server, path)
    assert status == 404
    assert b"[project]" not in body
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_only_get_and_head(server: serve.Server, method: str) -> None:
    assert ask(server, "/page/index.html", method)[0] == 501


def test_every_answer_keeps_the_page_to_itself(server: serve.Server) -> None:
    for path in ("/page/index.html", "/page/worker.js", "/no", "/", "/npm/ort-wasm-simd-threaded.mjs"):
        headers = ask(server, path)[1]
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        rules = dict(rule.strip().split(" ", 1) for rule in headers["Content-Security-Policy"].split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["connect-src"] == rules["worker-src"] == rules["style-src"] == "'self'"
        assert "http" not in headers["Content-Security-Policy"]
        assert "Python" not in headers["Server"]


def test_another_name_for_this_machine_is_refused(server: serve.Server) -> None:
    port = server.server_port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert ask(server, "/bundles.json", Host=host)[0] == 200
    for host in (f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert ask(server, "/bundles.json", Host=host)[0] == 421


def test_the_usual_port_is_left_out() -> None:
    assert "localhost" in serve._hosts("localhost", 80)
    assert "localhost" not in serve._hosts("localhost", 8000)


def test_a_bundle_that_is_named_is_served(engine: Path, tmp_path: Path) -> None:
    mine = tmp_path / "my bundle"
    shutil.copytree(SHIPPED / "tiny-fsq-32768", mine)
    with serve.Server("127.0.0.1", 0, serve.site([str(mine), "tiny-kl-16chn"], engine)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert ask(server, "/bundles/my%20bundle/decoder.local.onnx")[0] == 200
            (mine / "decoder.local.onnx").unlink()
            assert ask(server, "/bundles/my%20bundle/decoder.local.onnx")[0] == 404
        finally:
            server.shutdown()
            thread.join()


def test_what_cannot_be_served_is_one_line(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(SHIPPED / "tiny-fsq-32768", tmp_path / "tiny-kl-16chn")
    with pytest.raises(BundleError, match="have one name; rename"):
        serve.site([str(tmp_path / "tiny-kl-16chn")], engine)
    with pytest.raises(BundleError, match="neither a bundle folder nor a shipped bundle"):
        serve.site([str(tmp_path / "none")], engine)
    with pytest.raises(ServerError, match=r"npm ci --ignore-scripts --prefix .*--engine"):
        serve.site((), tmp_path)
    monkeypatch.setattr(serve, "_CHECKOUT", tmp_path)
    with pytest.raises(ServerError, match="the browser page is not in"):
        serve.site((), engine)


def test_a_port_in_use_is_one_line(engine: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["serve", "--port", str(port), "--engine", str(engine)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert f"cannot serve on 127.0.0.1, port {port}: Address already in use" in result.stderr


def test_another_host_is_warned_of_and_ctrl_c_ends_it(engine: Path) -> None:
    command = [sys.executable, "-m", "vidtok_runtime.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(
        [*command, "--engine", str(engine)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.default_int_handler),  # a shell's background ignores it
    ) as process:
        assert process.stdout is not None
        assert re.match(r"http://0\.0\.0\.0:\d+/", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "stopped\n"
    assert "other machines can reach this page" in err
    assert len(err.splitlines()) == 1


def test_the_line_about_a_missing_engine_works(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    web = tmp_path / "with a space/web"  # as an installed package, without the engine
    for part in ("page", "src"):
        shutil.copytree(WEB / part, web / part)
    monkeypatch.setattr(serve, "_INSTALLED", web)
    result = CliRunner().invoke(main, ["serve", "--port", "0"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    (command,) = re.findall("`(npm .+?)`", line)
    program, what, *options, library, runtime = shlex.split(command)
    assert (program, what, options) == ("npm", "install", ["--ignore-scripts", "--prefix", str(web)])
    package = json.loads((WEB / "package.json").read_text())
    versions = package["dependencies"] | package["devDependencies"]
    assert library == f"mediabunny@{versions['mediabunny']}"
    assert runtime == f"onnxruntime-web@{versions['onnxruntime-web']}"
    # What npm does with it:
    for row in PACKAGES.values():
        shutil.copytree(engine, web / "node_modules" / row["folder"], dirs_exist_ok=True)
    assert "/npm/ort-wasm-simd-threaded.wasm" in serve.site()


def test_the_wheel_has_the_engine_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hatchling = pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    assert hatchling
    spec = importlib.util.spec_from_file_location("web_files", WEB.parents[1] / "scripts/web_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copytree(WEB / "page", tmp_path / "runtime/web/page")
    names = [f"{serve.PACKAGES}/{row['folder']}/{name}" for row in PACKAGES.values() for name in row["files"]]
    for name in names:
        path = tmp_path / "runtime/web" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    placed: dict[str, dict[str, str]] = {"force_include": {}}
    module.WebFiles.initialize(SimpleNamespace(root=str(tmp_path)), "standard", placed)
    wanted = {f"vidtok_runtime/web/{name}" for name in names}
    assert set(placed["force_include"].values()) == {*wanted, "vidtok_runtime/web/page", "vidtok_runtime/web/src"}
