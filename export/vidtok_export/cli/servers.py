"""`triton` and `ovms`: a bundle for a model server."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from vidtok_export.cli.options import FILE, FORCE, PRECISION, SIZE, loud
from vidtok_export.servers.repository import check_room
from vidtok_export.targets import named
from vidtok_runtime.bundle.lookup import find_bundle
from vidtok_runtime.engines.registry import PROVIDERS


@click.command(
    epilog="Examples: vidtok-export triton tiny-fsq-32768 models/ --size 320x180 --kind gpu; "
    "vidtok-export triton tiny-fsq-32768 models/ --backend python --provider openvino"
)
@click.argument("bundle")
@click.argument("folder", type=FILE)
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "python"]),
    default="onnxruntime",
    show_default=True,
    help="Triton's own.",
)
@SIZE
@click.option("--kind", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Where it runs.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Clips that a call may join.")
@click.option(
    "--provider",
    type=click.Choice(list(PROVIDERS)),
    help="Engine, with --backend python.  [default: cpu, or cuda with --kind gpu]",
)
@PRECISION
@FORCE
@loud
def triton(
    bundle: str,
    folder: Path,
    backend: str,
    size: tuple[int, int],
    kind: str,
    batch: int,
    provider: str | None,
    precision: str | None,
    force: bool,
) -> None:
    """Add BUNDLE (folder or shipped name) to the Triton model repository FOLDER, which is made if it is not there.

    On the backend onnxruntime, Triton carries the states from request to request (implicit state), so the frames have
    one --size. Bundles with flags (version 1.1) take one clip a call whatever --batch says. On the backend python the
    runtime itself runs inside Triton: frames of any size, no padding or other rules for clients.
    FOLDER/VARIANT.md tells clients what to send.
    """
    _check_backend(backend)
    manifest = find_bundle(bundle)
    check_room(named(folder), manifest.name, force=force)
    if backend == "python":
        from vidtok_export.servers.triton_python import write_triton_python

        engine = provider or ("cuda" if kind == "gpu" else "cpu")
        names = write_triton_python(manifest, folder, kind=kind, provider=engine, precision=precision, force=force)
    else:
        from vidtok_export.servers.triton import write_triton

        names = write_triton(manifest, folder, size, kind=kind, precision=precision, batch=batch, force=force)
    click.echo(f"{folder}: {', '.join(names)}")


def _check_backend(backend: str) -> None:
    """Refuse options of the other backend, rather than ignore them."""
    given = click.get_current_context().get_parameter_source
    others = ("provider",) if backend == "onnxruntime" else ("size", "batch")
    for name in others:
        if given(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} is no option of --backend {backend}; leave it out")


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
