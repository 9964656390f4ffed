"""`serve`: the browser page."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import click

from vidtok_runtime.cli.options import FOLDER, command


@click.command(epilog="Examples: vidtok-run serve --open; vidtok-run serve kl-4chn/ --port 0")
@click.argument("bundles", nargs=-1)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--open", "show", is_flag=True, help="Open the page in the default browser.")
@click.option("--engine", type=FOLDER, help="Folder of the page's npm files.  [default: those installed]")
@command()
def serve(bundles: tuple[str, ...], port: int, host: str, show: bool, engine: Path | None) -> None:
    """Serve a page that tokenizes clips in the browser, with the shipped BUNDLES and those named.

    Nothing leaves this machine, and only this machine reaches the page unless --host says otherwise. Ctrl-C ends it.
    """
    from vidtok_runtime.tools.web_server import Server, is_loopback, site

    with Server(host, port, site(bundles, engine)) as server, contextlib.suppress(KeyboardInterrupt):
        if not is_loopback(host):
            logging.getLogger(__name__).warning(
                "other machines can reach this page, unencrypted; their browsers want it through an HTTPS proxy to work"
            )
        click.echo(f"{server.address} (Ctrl-C ends it)")
        if show:
            click.launch(server.address)
        server.serve_forever()
    click.echo("stopped")
