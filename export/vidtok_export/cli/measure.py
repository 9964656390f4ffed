"""`verify` and `quantize`: what a bundle loses, against the reference or the release and in other precisions."""

from __future__ import annotations

from pathlib import Path

import click

from vidtok_export.cli.options import CHECKPOINT, FILE, FORCE, loud
from vidtok_export.targets import check_precision
from vidtok_ref.families import all_families
from vidtok_runtime.bundle.manifest import read_manifest


@click.command(
    epilog="Examples: vidtok-export verify tiny-fsq-32768; vidtok-export verify cogvideox --checkpoint vae/ "
    "--against diffusers --clip clip.mp4"
)
@click.argument("bundle")
@CHECKPOINT
@click.option(
    "--against",
    type=click.Choice(sorted({f.release_library for f in all_families().values() if f.release_library})),
    help="Compare with this library's own implementation instead, on --clip; it must be installed (the extra `peers`).",
)
@click.option("--clip", type=FILE, help="What --against encodes and decodes.")
@click.option("--frames", type=click.IntRange(1), default=17, show_default=True, help="Of the clip, from its start.")
@click.option("--size", help="WIDTHxHEIGHT, or N for the shorter side.  [default: the clip's own]")
@loud
def verify(
    bundle: str, checkpoint: Path | None, against: str | None, clip: Path | None, frames: int, size: str | None
) -> None:
    """Measure again how far BUNDLE (folder or shipped name) is from the reference, on every installed engine."""
    if (against is None) != (clip is None):
        raise click.UsageError("--against LIBRARY and --clip CLIP belong together")

    from vidtok_export import against as other
    from vidtok_export.verify import reference_of, require, table
    from vidtok_export.verify import verify as measure
    from vidtok_runtime.bundle.lookup import find_bundle
    from vidtok_runtime.engines.registry import usable_providers

    manifest = find_bundle(bundle)
    if against is None or clip is None:
        rows = measure(manifest, reference_of(manifest, checkpoint), usable_providers())
        click.echo(table(rows))
        require(rows)
        return
    frames_read = other.read_clip(clip, frames, size)
    model = reference_of(manifest, checkpoint)
    other.check_library(model, against)
    differences = other.differences(manifest, model, frames_read, usable_providers())
    click.echo(other.table(differences))
    other.require(differences, against)


@click.command(epilog="Example: vidtok-export quantize kl-4chn --precision int8 --precision fp16 --calibrate clips/")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["int8", "fp16"]),
    multiple=True,
    default=("int8",),
    show_default=True,
    help="Repeat for both.",
)
@click.option(
    "--calibrate", type=click.Path(exists=True, path_type=Path), required=True, help="Clips: a folder or .csv list."
)
@click.option("--skip-note", "skip_notes", multiple=True, help="Leave out clips with this in their note; repeat.")
@click.option("--max-loss", default=0.2, show_default=True, help="PSNR that int8 may cost on held-out clips, dB.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@FORCE
@loud
def quantize(
    bundle: Path,
    precisions: tuple[str, ...],
    calibrate: Path,
    skip_notes: tuple[str, ...],
    max_loss: float,
    quiet: bool,
    force: bool,
) -> None:
    """Add int8 or fp16 graphs to BUNDLE, made from its float32 graphs, and measure what they cost.

    Layers whose loss is too large stay float. The clips are split as for training: those that are held out
    judge, the others calibrate.
    """
    precisions = tuple(dict.fromkeys(precisions))
    manifest = read_manifest(bundle)
    for precision in precisions:
        check_precision(manifest, precision, force=force)

    from vidtok_export.quantization.loss import judged
    from vidtok_export.quantization.precision import add_precision
    from vidtok_runtime.bundle.information import untrained

    for precision in precisions:
        rows = add_precision(
            bundle, precision, clips=calibrate, skip_notes=skip_notes, max_lost=max_loss, force=force, quiet=quiet
        )
        if not quiet:
            click.echo(judged(rows))
            if untrained(manifest):
                click.echo("the weights are untrained: this loss says nothing about trained ones")
