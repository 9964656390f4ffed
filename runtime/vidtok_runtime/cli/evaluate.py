"""`eval`: how well clips come back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from vidtok_runtime.cli.options import FILE, FORCE, GIVEN, STREAM, command, engine, limited, rate
from vidtok_runtime.errors import InputError
from vidtok_runtime.tokenizer import Tokenizer


def _baselines(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that mean nothing before any work starts."""
    from vidtok_runtime.evaluation.baselines import parse_baseline

    for value in values:
        try:
            parse_baseline(value)
        except InputError as error:
            raise click.BadParameter(str(error)) from error
    return values


@click.command(
    name="eval",
    epilog="Examples: vidtok-run eval clips/ --json result.json; vidtok-run eval clips/ --size 128 --fps 0 --bundle "
    "tiny-kl-16chn --bundle tiny-fsq-32768 --baseline pca --pca-clips train/ --baseline h264 --plot rd.png",
)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--bundle", "bundles", multiple=True, help="Folder or shipped name; repeat to compare.")
@click.option("--frames", type=click.IntRange(0), help="First frames; 0: whole clips.  [default: 17; non-causal: 16]")
@click.option("--size", type=click.IntRange(0), default=256, show_default=True, help="Centre square; 0: as it is.")
@click.option("--fps", callback=rate, default="30", show_default=True, help="Frame rate; 0: the clip's own.")
@STREAM
@click.option("--lpips", type=GIVEN, help="Also measure LPIPS with this graph of vidtok-export metric.")
@click.option("--fvd", type=GIVEN, help="Also measure FVD with this graph of vidtok-export metric.")
@click.option(
    "--baseline", "baselines", multiple=True, callback=_baselines, help="pca, pca:NUMBERS, h264, h265 or av1; repeat."
)
@click.option("--pca-clips", type=click.Path(exists=True, path_type=Path), help="Fit the pca on the clips of a folder.")
@click.option("--pca", "pca_file", type=FILE, help="The fitted pca (.npz): read, or with --pca-clips written.")
@click.option("--json", type=FILE, help="Also write the figures to this file.")
@click.option("--plot", type=FILE, help="Draw rate against distortion (.png, .svg), codecs as curves.")
@click.option("--plot-clips", type=FILE, help="Draw the clips one by one (.png, .svg).")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@command(FORCE)
@limited
@engine
def evaluate(
    folder: Path,
    bundles: tuple[str, ...],
    frames: int | None,
    size: int,
    fps: Fraction | None,
    stream: int | None,
    lpips: Path | None,
    fvd: Path | None,
    baselines: tuple[str, ...],
    pca_clips: Path | None,
    pca_file: Path | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
    **outputs: Any,
) -> None:
    """Measure how well the clips in FOLDER (or one clip) come back: PSNR, SSIM, bits per pixel, codes in use.

    By default as published: 30 frames a second, 17 frames (16 of non-causal variants), 256x256.
    """
    from vidtok_runtime.evaluation.baselines import Baselines
    from vidtok_runtime.evaluation.protocol import Protocol
    from vidtok_runtime.evaluation.run import Outputs, evaluate_folder
    from vidtok_runtime.evaluation.scores import Measures
    from vidtok_runtime.quality.graph_metrics import FvdGraph, LpipsGraph

    written = Outputs(**outputs)
    written.open()  # what is there already is found before an engine is loaded
    compared = Baselines(baselines, pca_clips, pca_file, force=written.force)
    tokenizers = [tokenizer(bundle) for bundle in bundles or (None,)]
    first = tokenizers[0]
    lines = evaluate_folder(
        tokenizers,
        folder,
        lambda default: Protocol((default if frames is None else frames) or None, size or None, fps, stream),
        baselines=compared,
        measures=Measures(
            LpipsGraph(lpips, first.provider, first.options) if lpips else None,
            FvdGraph(fvd, first.provider, first.options) if fvd else None,
        ),
        outputs=written,
        quiet=quiet,
    )
    for line in lines:
        click.echo(line)
