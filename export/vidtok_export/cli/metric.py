"""`metric`: the networks of LPIPS and FVD as graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from vidtok_export.cli.options import FILE, FORCE, loud
from vidtok_runtime.files import PartFile


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: vidtok-export metric lpips --weights vgg16-397923af.pth",
)
def metric() -> None:
    """Turn the networks of LPIPS and FVD into graphs for `vidtok-run eval`, from weights that are here already."""


@metric.command(epilog="Example: vidtok-export metric lpips --weights vgg16-397923af.pth")
@click.option("--net", type=click.Choice(["vgg", "alex"]), default="vgg", show_default=True, help="Backbone.")
@click.option(
    "--weights", type=FILE, help="Torchvision's .pth, or its folder.  [default: $VIDTOK_LPIPS, torch's cache]"
)
@click.option("-o", "--out", type=FILE, help="New graph.  [default: lpips-NET.onnx]")
@FORCE
@loud
def lpips(net: Literal["vgg", "alex"], weights: Path | None, out: Path | None, force: bool) -> None:
    """Export LPIPS; needs torchmetrics and torchvision (the extra `eval`)."""
    out = out or Path(f"lpips-{net}.onnx")
    PartFile(out, force=force)

    from vidtok_export.metric import export_lpips

    export_lpips(out, net, weights, force=force)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; vidtok-run eval CLIPS --lpips {out}")


@metric.command(epilog="Example: vidtok-export metric fvd --weights i3d_pretrained_400.pt")
@click.option("--weights", type=FILE, required=True, help="State dict of pytorch-i3d, Kinetics-400.")
@click.option("--frames", type=click.IntRange(1), default=17, show_default=True, help="Frames of a clip.")
@click.option("-o", "--out", type=FILE, help="New graph.  [default: fvd-FRAMES.onnx]")
@FORCE
@loud
def fvd(weights: Path, frames: int, out: Path | None, force: bool) -> None:
    """Export the I3D features of FVD for clips of one length (non-causal variants are measured on 16 frames)."""
    out = out or Path(f"fvd-{frames}.onnx")
    PartFile(out, force=force)

    from vidtok_export.metric import export_fvd

    export_fvd(out, weights, frames, force=force)
    click.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB; vidtok-run eval CLIPS --fvd {out}")
