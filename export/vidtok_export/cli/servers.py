"""`triton` and `ovms`: a bundle for a model server."""

from __future__ import annotations

from pathlib import Path

import click

from vidtok_export.cli.options import FILE, FORCE, PRECISION, SIZE, loud
from vidtok_export.servers.repository import check_room
from vidtok_export.targets import named
from vidtok_runtime.bundle.lookup import find_bundle


@click.command(epilog="Example: vidtok-export triton tiny-fsq-32768 models/ --size 320x180 --kind gpu")
@click.argument("bundle")
@click.argument("folder", type=FILE)
@SIZE
@click.option("--kind", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Where it runs.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Clips that a call may join.")
@PRECISION
@FORCE
@loud
def triton(
    bundle: str, folder: Path, size: tuple[int, int], kind: str, batch: int, precision: str | None, force: bool
) -> None:
    """Add BUNDLE (folder or shipped name) to the Triton model repository FOLDER, which is made if it is not there.

    Triton carries the states from request to request (implicit state), so the frames have one size. FOLDER/VARIANT.md
    tells clients what to send. Bundles with flags (version 1.1) take one clip a call whatever --batch says.
    """
    manifest = find_bundle(bundle)
    check_room(named(folder), manifest.name, force=force)

    from vidtok_export.servers.triton import write_triton

    names = write_triton(manifest, folder, size, kind=kind, precision=precision, batch=batch, force=force)
    click.echo(f"{folder}: {', '.join(names)}")


@click.command(epilog="Example: vidtok-export ovms tiny-fsq-32768 models/ --size 320x180")
@click.argument("bundle")
@click.argument("folder", type=FILE)
@SIZE
@FORCE
@loud
def ovms(bundle: str, folder: Path, size: tuple[int, int], force: bool) -> None:
    """Add BUNDLE (folder or shipped name) to FOLDER and its config.json, for OpenVINO Model Server.

    FOLDER is made if it is not there. The states become variables of the models, so the frames have one size.
    FOLDER/VARIANT.md tells clients what to send. The models are the float32 graphs.
    """
    manifest = find_bundle(bundle)
    check_room(named(folder), manifest.name, force=force)

    from vidtok_export.servers.ovms import write_ovms

    names = write_ovms(manifest, folder, size, force=force)
    click.echo(f"{folder}: {', '.join(names)}")
