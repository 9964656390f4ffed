"""`info`: what a file is."""

from __future__ import annotations

import click

from vidtok_runtime.cli.options import command


@click.command(epilog="Examples: vidtok-run info tiny-fsq-32768; vidtok-run info clip.safetensors --verify")
@click.argument("file")
@click.option("--verify", is_flag=True, help="Also compare the checksums with the content.")
@command()
def info(file: str, verify: bool) -> None:
    """Describe FILE: a token file, a folder of segments, or a bundle (folder or shipped name)."""
    from vidtok_runtime.tools.describe import describe

    click.echo(describe(file, verify=verify))
