"""`vidtok-run`: parse and call."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from vidtok_runtime.errors import InputError, VidtokError
from vidtok_runtime.session import PROVIDERS
from vidtok_runtime.tokenizer import Tokenizer


def _size(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Refuse a size that means nothing before any work starts."""
    if value is not None:
        from vidtok_runtime.video_in import fit_size

        try:
            fit_size(value, 1, 1)
        except InputError as error:
            raise click.BadParameter(str(error)) from error
    return value


def _rate(_: click.Context, __: click.Parameter, value: str) -> Fraction | None:
    """Frames a second; None for 0, the clip's own."""
    try:
        rate = Fraction(value)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(f"{value!r} is no frame rate; give 30, 29.97 or 30000/1001") from error
    if rate and not Fraction(1, 100) <= rate <= 1000:
        raise click.BadParameter(f"a frame rate is 0 (the clip's own) or in 0.01..1000, got {value}")
    return rate or None


def _baselines(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that mean nothing before any work starts."""
    from vidtok_runtime.baselines import parse_baseline

    for value in values:
        try:
            parse_baseline(value)
        except InputError as error:
            raise click.BadParameter(str(error)) from error
    return values


FILE = click.Path(path_type=Path, dir_okay=False)
GIVEN = click.Path(path_type=Path, dir_okay=False, exists=True)
FOLDER = click.Path(path_type=Path, file_okay=False)
COMMON = [
    click.option("--bundle", help="Bundle folder or shipped name.  [default: tiny-kl-16chn; decode: found by hash]"),
    click.option("--quiet", is_flag=True, help="No progress bar and no summary."),
]
ENGINE = [
    click.option("--provider", type=click.Choice(["auto", *PROVIDERS]), default="auto", show_default=True),
    click.option("--device-id", default=0, show_default=True, help="Number of the CUDA device."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: all]"),
    click.option("--window", type=click.IntRange(1), help="Frames a window, non-causal variants only.  [default: 16]"),
]
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
FORCE = click.option("--force", is_flag=True, help="Replace an existing output.")
SIZE = click.option("--size", callback=_size, help="Resize first: WIDTHxHEIGHT, or the shorter side in pixels.")


def _add(options: list[Callable[..., Any]], function: Callable[..., None]) -> Callable[..., None]:
    """`function` with click options in the order listed."""
    for option in reversed(options):
        function = option(function)
    return function


def _command(*options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options, and turn expected errors into one line on stderr and exit code 1."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(*args: Any, debug: bool, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except VidtokError as error:
                if debug:
                    raise
                click.echo(f"vidtok-run: error: {error}", err=True)
                sys.exit(1)

        return _add([*options, DEBUG], call)

    return wrap


def _engine(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of an engine, and give `function` a `tokenizer(bundle)` made of them."""

    @functools.wraps(function)
    def call(*args: Any, provider: str, device_id: int, threads: int | None, window: int | None, **kwargs: Any) -> None:
        options: dict[str, Any] = {"threads": threads, "window": window, "device_id": device_id}
        function(*args, tokenizer=functools.partial(Tokenizer, provider=provider, **options), **kwargs)

    return _add(ENGINE, call)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: vidtok-run encode clip.mp4; vidtok-run decode clip.safetensors -o back.mp4; vidtok-run demo",
)
@click.version_option(package_name="vidtok-onnx")
def main() -> None:
    """Tokenize video and turn tokens back into video, without PyTorch."""


@main.command(epilog="Example: vidtok-run encode clip.mp4 -o clip.safetensors --size 256")
@click.argument("clip", type=FILE)
@click.option("-o", "--out", type=FILE, help="Token file.  [default: CLIP with the suffix .safetensors]")
@click.option("--half", is_flag=True, help="Store latents as float16 (tokens are exact anyway).")
@_command(SIZE, FORCE, *COMMON)
@_engine
def encode(
    clip: Path,
    out: Path | None,
    half: bool,
    size: str | None,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Encode CLIP (a video or an image) into a token file."""
    from vidtok_runtime.pipeline import encode_file

    out = out or clip.with_suffix(".safetensors")
    tok = tokenizer(bundle)
    info = encode_file(tok, clip, out, size=size, half=half, force=force, quiet=quiet)
    if not quiet:
        click.echo(f"{out}: {info.num_frames} frames of {info.width}x{info.height}, {out.stat().st_size:,} bytes")


@main.command(epilog="Example: vidtok-run decode clip.safetensors -o back.mp4")
@click.argument("tokens", type=FILE)
@click.option("-o", "--out", type=FILE, help="Video.  [default: TOKENS with the suffix .decoded.mp4]")
@_command(FORCE, *COMMON)
@_engine
def decode(
    tokens: Path,
    out: Path | None,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Decode a token file into a video (or an image, for one frame)."""
    from vidtok_runtime.bundles import find_bundle_of
    from vidtok_runtime.pipeline import decode_file
    from vidtok_runtime.tokens import TokenReader

    out = out or tokens.with_suffix(".decoded.mp4")
    found = bundle or find_bundle_of(TokenReader(tokens).info)
    tok = tokenizer(found)
    info = decode_file(tok, tokens, out, force=force, quiet=quiet)
    if not quiet:
        click.echo(f"{out}: {info.num_frames} frames of {info.width}x{info.height}")


@main.command(epilog="Example: vidtok-run reconstruct clip.mp4 --side-by-side --bundle tiny-fsq-32768")
@click.argument("clip", type=FILE)
@click.option("-o", "--out", type=FILE, help="Video.  [default: CLIP with the suffix .recon.mp4]")
@click.option("--side-by-side", is_flag=True, help="Put the original on the left.")
@_command(SIZE, FORCE, *COMMON)
@_engine
def reconstruct(
    clip: Path,
    out: Path | None,
    side_by_side: bool,
    size: str | None,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Encode and decode CLIP in one pass and measure PSNR and SSIM."""
    from vidtok_runtime.pipeline import reconstruct_file

    out = out or clip.with_suffix(".recon.mp4")
    tok = tokenizer(bundle)
    quality = reconstruct_file(tok, clip, out, size=size, side_by_side=side_by_side, force=force, quiet=quiet)
    click.echo(f"{out}: {quality.frames} frames, PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.4f}")


@main.command(
    name="eval",
    epilog="Examples: vidtok-run eval clips/ --json result.json; vidtok-run eval clips/ --size 128 --fps 0 --bundle "
    "tiny-kl-16chn --bundle tiny-fsq-32768 --baseline pca --pca-clips train/ --baseline h264 --plot rd.png",
)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--bundle", "bundles", multiple=True, help="Folder or shipped name; repeat to compare.")
@click.option("--frames", type=click.IntRange(0), help="First frames; 0: whole clips.  [default: 17; non-causal: 16]")
@click.option("--size", type=click.IntRange(0), default=256, show_default=True, help="Centre square; 0: as it is.")
@click.option("--fps", callback=_rate, default="30", show_default=True, help="Frame rate; 0: the clip's own.")
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
@_command(FORCE)
@_engine
def evaluate(
    folder: Path,
    bundles: tuple[str, ...],
    frames: int | None,
    size: int,
    fps: Fraction | None,
    lpips: Path | None,
    fvd: Path | None,
    baselines: tuple[str, ...],
    pca_clips: Path | None,
    pca_file: Path | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
    **outputs: Any,
) -> None:
    """Measure how well the clips in FOLDER (or one clip) come back: PSNR, SSIM, bits a pixel, codes in use.

    By default as published: 30 frames a second, 17 frames (16 of non-causal variants), 256x256.
    """
    from vidtok_runtime.baselines import Baselines
    from vidtok_runtime.evaluate import Outputs, evaluate_folder
    from vidtok_runtime.evaluation import Measures
    from vidtok_runtime.measures import Fvd, Lpips
    from vidtok_runtime.protocol import Protocol

    tokenizers = [tokenizer(bundle) for bundle in bundles or (None,)]
    first = tokenizers[0]
    lines = evaluate_folder(
        tokenizers,
        folder,
        lambda default: Protocol((default if frames is None else frames) or None, size or None, fps),
        baselines=Baselines(baselines, pca_clips, pca_file, force=outputs["force"]),
        measures=Measures(
            Lpips(lpips, first.provider, first.options) if lpips else None,
            Fvd(fvd, first.provider, first.options) if fvd else None,
        ),
        outputs=Outputs(**outputs),
        quiet=quiet,
    )
    for line in lines:
        click.echo(line)


@main.command(epilog="Example: vidtok-run info tiny-fsq-32768")
@click.argument("file")
@_command()
def info(file: str) -> None:
    """Describe FILE, a token file or a bundle (folder or shipped name)."""
    from vidtok_runtime.describe import describe

    click.echo(describe(file))


@main.command(epilog="Example: vidtok-run demo --out demo/ --clip my.mp4")
@click.option("--clip", type=FILE, help="A clip of your own.  [default: a made-up one]")
@click.option("--out", "folder", type=FOLDER, default=Path("vidtok-demo"), show_default=True, help="Folder.")
@_command(FORCE, *COMMON)
@_engine
def demo(
    clip: Path | None,
    folder: Path,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Encode and decode a clip with the shipped model and write a side-by-side picture."""
    from vidtok_runtime.demo import run_demo

    tok = tokenizer(bundle)
    for path in run_demo(tok, folder, clip, force=force, quiet=quiet):
        click.echo(path)
