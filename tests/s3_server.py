"""An S3 server on the loopback, of which tests see every request and at any of which they may step in."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.request import Request as Asked
from urllib.request import urlopen

import pytest

BUCKET = "clips"


class Request(NamedTuple):
    """What a client asks for: method, `/bucket/key`, the rest of the address, and the range of bytes."""

    method: str
    path: str
    query: str
    range: str

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "POST", "DELETE")


class S3Server:
    """Serves until `stop`; `before` and `after` are called with each request, `denied` says which are refused."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.requests: list[Request] = []
        self.served = 0  # bytes of objects and parts of objects
        self.before: Callable[[Request], object] = lambda _: None
        self.after: Callable[[Request], object] = lambda _: None
        self.denied: Callable[[Request], bool] = lambda _: False
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def _answer(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        asked = Request(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], environ.get("HTTP_RANGE", "")
        )
        self.requests.append(asked)
        self.before(asked)
        if self.denied(asked):
            respond("403 Forbidden", [("Content-Type", "application/xml")])
            said = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            return [] if asked.method == "HEAD" else [said]
        answer = b"".join(self._app(environ, respond))
        if asked.method == "GET" and asked.path.count("/") > 1:
            self.served += len(answer)
        self.after(asked)
        return [answer]

    def keys(self) -> dict[str, bytes]:
        """Every object of the bucket."""
        import boto3

        client = boto3.client("s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"])
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        names = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}

    def stop(self) -> None:
        self._server.shutdown()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server with the bucket, which is empty, to which this process and its children go."""
    server = S3Server()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in server.environment.items():
                patch.setitem(os.environ, name, value)
            import boto3

            # All servers of a process share their objects.
            urlopen(Asked(f"{server.environment['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")).close()
            boto3.client("s3", endpoint_url=server.environment["AWS_ENDPOINT_URL"]).create_bucket(Bucket=BUCKET)
            _forget_stores()
            yield server
    finally:
        server.stop()
        _forget_stores()


def _forget_stores() -> None:
    """Fsspec keeps a store by its options, which do not name the server."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
