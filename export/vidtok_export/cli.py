"""`vidtok-export`: parse and call."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vidtok_export.errors import ExportError
from vidtok_ref.errors import ModelError
from vidtok_ref.variant import VARIANTS, Variant, find_variant
from vidtok_runtime.cli.options import clean_exit_on_sigterm
from vidtok_runtime.errors import VidtokError

FILE = click.Path(path_type=Path)
FORCE = click.option("--force", is_flag=True, help="Replace an existing file.")
VARIANT = click.option("--variant", help="Name; --list shows them.  [default: the one inside the checkpoint]")
CHECKPOINT = click.option("--checkpoint", type=FILE, help="Released .ckpt, or .safetensors.")
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


def _loud(function: Callable[..., None]) -> Callable[..., None]:
    """Turn expected errors into one line on stderr and exit code 1."""

    @functools.wraps(function)
    def call(*args: Any, debug: bool, **kwargs: Any) -> None:
        try:
            with clean_exit_on_sigterm("vidtok-export"):
                function(*args, **kwargs)
        except (ExportError, ModelError, VidtokError) as error:
            if debug:
                raise
            click.echo(f"vidtok-export: error: {error}", err=True)
            sys.exit(1)

    return DEBUG(call)


def _size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """Width and height: 320x180, or 256 for a square."""
    from vidtok_runtime.selection import fit_size

    try:
        height, width = fit_size(value, 1, 1)
    except VidtokError as error:
        raise click.BadParameter(str(error)) from error
    return width, height


SIZE = click.option(
    "--size", default="256", show_default=True, callback=_size, help="Of the frames: WIDTHxHEIGHT, or N for a square."
)
PRECISION = click.option("--precision", help="As the bundle offers.  [default: the bundle's first]")


def _list() -> str:
    lines = [f"{'variant':<30}{'latent':>16}{'factor T x H x W':>18}"]
    for v in VARIANTS.values():
        latent = f"{v.codebook_size:,} codes" if v.codebook_size else f"{v.z_channels} channels"
        factor = f"{v.time_factor}x{v.spatial_factor}x{v.spatial_factor}"
        lines.append(f"{v.name:<30}{latent:>16}{factor:>18}")
    return "\n".join(lines)


def _show_list(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(_list())
        ctx.exit()


def _variant(name: str | None, checkpoint: Path | None, ch: int | None) -> Variant:
    """The named variant, or the one inside the checkpoint."""
    from vidtok_ref.weights import embedded_variant

    inside = embedded_variant(checkpoint) if checkpoint and name is None else None
    if name is None and inside is None:
        raise click.UsageError("give --variant NAME (--list shows them), or --checkpoint with one that says it itself")
    return find_variant(inside or name or "", **({"ch": ch} if ch else {}))


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: vidtok-export --variant kl-4chn --checkpoint vidtok_kl_causal_488_4chn.ckpt; "
    "vidtok-export verify kl-4chn; vidtok-export convert vidtok_kl_causal_488_4chn.ckpt --variant kl-4chn",
)
@VARIANT
@CHECKPOINT
@click.option("--out", type=FILE, help="New bundle folder.  [default: the variant's name]")
@click.option("--seed", type=int, help="Untrained weights from this seed, instead of a checkpoint.")
@click.option("--ch", type=click.IntRange(1), help="Width, instead of the released 128.")
@click.option("--chunk", type=click.IntRange(1), default=4, show_default=True, help="Latents a call, or a window.")
@click.option("--licence", default="MIT", show_default=True, help="Licence of the weights, for the manifest.")
@click.option("--triton", type=FILE, help="Also write a Triton model repository, as `vidtok-export triton` does.")
@click.option("--no-simplify", is_flag=True, help="Skip onnxsim.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--list", "show", is_flag=True, is_eager=True, expose_value=False, callback=_show_list, help="Variants.")
@click.version_option(package_name="vidtok-onnx")
@click.pass_context
@_loud
def main(
    ctx: click.Context,
    variant: str | None,
    checkpoint: Path | None,
    out: Path | None,
    seed: int | None,
    ch: int | None,
    chunk: int,
    licence: str,
    triton: Path | None,
    no_simplify: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Export a tokenizer to a bundle of ONNX graphs and check it against the reference.

    Without --checkpoint and --seed the released weights are looked for in $VIDTOK_CHECKPOINTS, in
    ./checkpoints and on the model hub.
    """
    if ctx.invoked_subcommand is not None:
        return
    if checkpoint is not None and seed is not None:
        raise click.UsageError("give --checkpoint FILE, or --seed N for untrained weights, not both")
    chosen = _variant(variant, checkpoint, ch)
    out = out or Path(Path(chosen.name).name)
    if triton is not None and triton.exists():
        raise click.UsageError(f"--triton: {triton} exists already; give another name")

    from vidtok_export.bundle import export
    from vidtok_ref.checkpoints import find_checkpoint
    from vidtok_ref.load import build

    weights = checkpoint if checkpoint or seed is not None else find_checkpoint(chosen)
    model = build(chosen, weights, seed=seed or 0)
    export(model, out, chunk=chunk, simplify=not no_simplify, force=force, licence=licence, quiet=quiet)
    if not quiet:
        size = sum(p.stat().st_size for p in out.iterdir()) / 1e6
        click.echo(f"{out}: {size:.1f} MB" + ("" if model.seed is None else ", UNTRAINED weights"))
    if triton is not None:
        from vidtok_export.triton import write_triton
        from vidtok_runtime.manifest import read_manifest

        names = write_triton(read_manifest(out), triton, (256, 256))
        if not quiet:
            click.echo(f"{triton}: {', '.join(names)}")


@main.command(epilog="Example: vidtok-export verify tiny-fsq-32768")
@click.argument("bundle")
@CHECKPOINT
@_loud
def verify(bundle: str, checkpoint: Path | None) -> None:
    """Measure again how far BUNDLE (folder or shipped name) is from the reference, on every installed engine."""
    from vidtok_export.verify import reference_of, require, table
    from vidtok_export.verify import verify as measure
    from vidtok_runtime.bundles import find_bundle
    from vidtok_runtime.session import usable_providers

    manifest = find_bundle(bundle)
    model = reference_of(manifest, checkpoint)
    rows = measure(manifest, model, usable_providers())
    click.echo(table(rows))
    require(rows)


@main.command(epilog="Example: vidtok-export quantize kl-4chn --precision int8 --precision fp16 --calibrate clips/")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--precision", "precisions", type=click.Choice(["int8", "fp16"]), multiple=True, default=("int8",))
@click.option(
    "--calibrate", type=click.Path(exists=True, path_type=Path), required=True, help="Clips: a folder or .csv list."
)
@click.option("--skip-note", "skip_notes", multiple=True, help="Leave out clips with this in their note; repeat.")
@click.option("--max-loss", default=0.2, show_default=True, help="PSNR that int8 may cost on held-back clips, dB.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@FORCE
@_loud
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

    Layers whose loss is too large stay float. The clips are split as for training: those that are held back
    judge, the others calibrate.
    """
    from vidtok_export.judge import judged
    from vidtok_export.precision import add_precision

    for precision in dict.fromkeys(precisions):
        rows = add_precision(
            bundle, precision, clips=calibrate, skip_notes=skip_notes, most_lost=max_loss, force=force, quiet=quiet
        )
        if not quiet:
            click.echo(judged(rows))


@main.command(epilog="Example: vidtok-export convert vidtok_kl_causal_488_4chn.ckpt --variant kl-4chn")
@click.argument("checkpoint", type=FILE)
@VARIANT
@click.option("-o", "--out", type=FILE, help="New file.  [default: CHECKPOINT with the suffix .safetensors]")
@click.option("--ch", type=click.IntRange(1), help="Width, instead of the released 128.")
@click.option("--half", is_flag=True, help="Store float16 instead of float32.")
@FORCE
@_loud
def convert(checkpoint: Path, variant: str | None, out: Path | None, ch: int | None, half: bool, force: bool) -> None:
    """Turn CHECKPOINT into safetensors with the variant inside and nothing but the model."""
    import torch

    from vidtok_export.errors import TargetError
    from vidtok_ref.load import build
    from vidtok_ref.weights import write_weights

    out = out or checkpoint.with_suffix(".safetensors")
    if out.exists() and not force:
        raise TargetError(f"{out} exists already; give --force to replace it")
    model = build(_variant(variant, checkpoint, ch), checkpoint)
    write_weights(model, out, torch.float16 if half else torch.float32)
    click.echo(f"{out}: {model.variant.name}, {out.stat().st_size / 1e6:.1f} MB")


@main.command(epilog="Example: vidtok-export triton tiny-fsq-32768 models/ --size 320x180 --kind gpu")
@click.argument("bundle")
@click.argument("folder", type=FILE)
@SIZE
@click.option("--kind", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Where it runs.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Clips that a call may join.")
@PRECISION
@FORCE
@_loud
def triton(
    bundle: str, folder: Path, size: tuple[int, int], kind: str, batch: int, precision: str | None, force: bool
) -> None:
    """Write BUNDLE (folder or shipped name) as the new Triton model repository FOLDER.

    Triton carries the states from request to request (implicit state), so the frames have one size. FOLDER/README.md
    tells clients what to send. Bundles with flags (version 1.1) take one clip a call whatever --batch says.
    """
    from vidtok_export.triton import write_triton
    from vidtok_runtime.bundles import find_bundle

    manifest = find_bundle(bundle)
    names = write_triton(manifest, folder, size, kind=kind, precision=precision, batch=batch, force=force)
    click.echo(f"{folder}: {', '.join(names)}")


@main.command(epilog="Example: vidtok-export ovms tiny-fsq-32768 models/ --size 320x180")
@click.argument("bundle")
@click.argument("folder", type=FILE)
@SIZE
@PRECISION
@FORCE
@_loud
def ovms(bundle: str, folder: Path, size: tuple[int, int], precision: str | None, force: bool) -> None:
    """Write BUNDLE (folder or shipped name) as the new FOLDER for OpenVINO Model Server, with its config.json.

    The states become variables of the models, so the frames have one size. FOLDER/README.md tells clients what to
    send.
    """
    from vidtok_export.ovms import write_ovms
    from vidtok_runtime.bundles import find_bundle

    names = write_ovms(find_bundle(bundle), folder, size, precision=precision, force=force)
    click.echo(f"{folder}: {', '.join(names)}")


@main.group(context_settings={"help_option_names": ["-h", "--help"]})
def metric() -> None:
    """Turn the networks of LPIPS and FVD into graphs for `vidtok-run eval`, from weights that are here already."""


@metric.command(epilog="Example: vidtok-export metric lpips --weights vgg16-397923af.pth")
@click.option("--net", type=click.Choice(["vgg", "alex"]), default="vgg", show_default=True, help="Backbone.")
@click.option(
    "--weights", type=FILE, help="Torchvision's .pth, or its folder.  [default: $VIDTOK_LPIPS, torch's cache]"
)
@click.option("-o", "--out", type=FILE, help="New graph.  [default: lpips-NET.onnx]")
@FORCE
@_loud
def lpips(net: str, weights: Path | None, out: Path | None, force: bool) -> None:
    """Export LPIPS; needs torchmetrics and torchvision (the extra `eval`)."""
    from vidtok_export.metric import export_lpips

    out = out or Path(f"lpips-{net}.onnx")
    export_lpips(out, net, weights, force=force)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; vidtok-run eval CLIPS --lpips {out}")


@metric.command(epilog="Example: vidtok-export metric fvd --weights i3d_pretrained_400.pt")
@click.option("--weights", type=FILE, required=True, help="State dict of pytorch-i3d, Kinetics-400.")
@click.option("--frames", type=click.IntRange(1), default=17, show_default=True, help="Frames of a clip.")
@click.option("-o", "--out", type=FILE, help="New graph.  [default: fvd-FRAMES.onnx]")
@FORCE
@_loud
def fvd(weights: Path, frames: int, out: Path | None, force: bool) -> None:
    """Export the I3D features of FVD for clips of one length (non-causal variants are measured on 16 frames)."""
    from vidtok_export.metric import export_fvd

    out = out or Path(f"fvd-{frames}.onnx")
    export_fvd(out, weights, frames, force=force)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; vidtok-run eval CLIPS --fvd {out}")
