"""The browser page on a local address: a fixed table of files, and headers that keep everything on this machine."""

from __future__ import annotations

import http.server
import ipaddress
import json
import shlex
import shutil
import socket
import sys
import urllib.parse
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from vidtok_runtime.bundle.lookup import find_bundle, shipped_names
from vidtok_runtime.bundle.manifest import Manifest
from vidtok_runtime.errors import BundleError, ServerError
from vidtok_runtime.files import is_file

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Embedder-Policy": "require-corp",  # this one and the next two give WASM its threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_INSTALLED = Path(__file__).parents[1] / "web"  # of a wheel
_CHECKOUT = Path(__file__).parents[2] / "web"
PACKAGES = Path("node_modules")  # where npm puts them, below either of these


def site(bundles: Iterable[str] = (), engine: Path | None = None) -> dict[str, Path | bytes]:
    """Everything that is served, by address: page, module, npm packages, the shipped bundles and those named.

    engine: folder of the packages' files; None: those installed. Raises ServerError or BundleError.
    """
    web = _INSTALLED if (_INSTALLED / "page").is_dir() else _CHECKOUT
    pages: dict[str, Path | bytes] = {}
    for part in ("page", "src"):
        found = {f"/{part}/{p.relative_to(web / part).as_posix()}": p for p in (web / part).rglob("*")}
        pages |= {address: path for address, path in found.items() if path.suffix in TYPES and is_file(path)}
    if "/page/index.html" not in pages or "/src/index.js" not in pages:
        raise ServerError(f"the browser page is not in {web}; install vidtok-onnx again, from a wheel or a checkout")
    pages |= _packages(web, engine)
    manifests = _manifests(bundles)
    for name, manifest in manifests.items():
        for file in ("manifest.json", *manifest.files):
            pages[f"/bundles/{name}/{file}"] = manifest.folder / file
    pages["/bundles.json"] = json.dumps(list(manifests)).encode()
    return pages


def _packages(web: Path, folder: Path | None) -> dict[str, Path]:
    rows = json.loads((web / "page/packages.json").read_bytes()).values()
    files = {name: (folder or web / PACKAGES / row["folder"]) / name for row in rows for name in row["files"]}
    missing = [path for path in files.values() if not is_file(path)]
    if missing:
        packages = [] if web == _CHECKOUT else sorted({row["package"] for row in rows})
        way = shlex.join(["npm", "install" if packages else "ci", "--ignore-scripts", "--prefix", str(web), *packages])
        raise ServerError(
            f"the page's packages are not all here ({missing[0]} is missing); get them once with `{way}`, or name a "
            "folder of their files with --engine"
        )
    return {f"/npm/{name}": path for name, path in files.items()}


def _manifests(bundles: Iterable[str]) -> dict[str, Manifest]:
    found = {name: find_bundle(name) for name in shipped_names()}
    for bundle in bundles:
        manifest = find_bundle(bundle)
        name = manifest.folder.resolve().name
        other = found.get(name)
        if other is not None and other.folder.resolve() != manifest.folder.resolve():
            raise BundleError(f"{manifest.folder} and {other.folder} have one name; rename one of the folders")
        found[name] = manifest
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hosts(name: str, port: int) -> set[str]:
    """What requests may call this machine.

    Another site's name that is made to point here must not read the bundles (DNS rebinding).
    """
    names = {name, "localhost", "127.0.0.1", "[::1]"}
    return {f"{n}:{port}" for n in names} | (names if port == 80 else set())  # a port that clients leave out


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages` and nothing else; raises ServerError when the address cannot be taken."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Path | bytes]) -> None:
        self.pages = pages
        try:
            self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            super().__init__((str(address[0]), port), _Handler)
        except OSError as error:
            raise ServerError(
                f"cannot serve on {host}, port {port}: {error.strerror or error}; give another with --host or --port"
            ) from error
        name = f"[{host}]" if ":" in host else host
        self.address = f"http://{name}:{self.server_port}/"
        self.hosts = _hosts(name, self.server_port) if is_loopback(host) else None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where the browser went away."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "vidtok-run", ""
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that an idle connection is kept

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.server.hosts is not None and self.headers.get("Host") not in self.server.hosts:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "Open the address that vidtok-run serve printed")
            return
        address = urllib.parse.unquote(self.path.partition("?")[0])
        if address == "/":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", "/page/index.html")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        page = self.server.pages.get(address)
        try:
            if page is None:
                raise FileNotFoundError
            self._send(address, page, body)
        except (FileNotFoundError, PermissionError):
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, address: str, page: Path | bytes, body: bool) -> None:
        if isinstance(page, bytes):
            self._head(address, len(page))
            if body:
                self.wfile.write(page)
            return
        with page.open("rb") as file:
            self._head(address, page.stat().st_size)
            if body:
                shutil.copyfileobj(file, self.wfile)

    def _head(self, address: str, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(Path(address).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def end_headers(self) -> None:
        """Send what is said with every answer too."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the base class gave it
        """Write nothing."""
