"""`info`: what a file is."""

from __future__ import annotations

import click

from vidtok_runtime.cli.options import command


@click.command(epilog="Example: vidtok-run info tiny-fsq-32768")
@click.argument("file")
@command()
def info(file: str) -> None:
    """Describe FILE, a token file or a bundle (folder or shipped name)."""
    from vidtok_runtime.describe import describe

    click.echo(describe(file))
