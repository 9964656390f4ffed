"""`encode`, `decode`, `reconstruct`, `demo`: video to tokens and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from vidtok_runtime.bundle.lookup import DEFAULT, shipped_names
from vidtok_runtime.cli.options import (
    ANY_FILE,
    COMMON,
    FOLDER,
    FORCE,
    GIVEN,
    RANGE,
    PlaceType,
    command,
    engine,
    latents,
    limited,
    say,
    source,
    target_of,
    written,
)
from vidtok_runtime.places import size_of
from vidtok_runtime.remote import Place
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Opening
from vidtok_runtime.video.writer import Output


@click.command(
    epilog="Examples: vidtok-run encode clip.mp4 -o clip.safetensors --size 256; "
    "ffmpeg -i clip.mp4 -f yuv4mpegpipe - | vidtok-run encode - -o clip.safetensors"
)
@click.argument("clip")
@click.option("-o", "--out", type=ANY_FILE, help="Token file.  [default: CLIP with the suffix .safetensors]")
@click.option("--gop", type=click.IntRange(1), help="Start anew every so many latents: seekable; causal models only.")
@command(FORCE, *COMMON)
@latents
@limited
@source
@engine
def encode(
    clip: str,
    out: Place | None,
    half: bool,
    form: LatentForm,
    gop: int | None,
    selection: Selection,
    opening: Opening,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Encode CLIP into a token file.

    CLIP is a video, an image, a folder of images, an address (rtsp://, http://, s3://), a camera's number, or - for
    stdin. The token file, too, may be in a store (extra `remote`).
    """
    from vidtok_runtime.pipeline.files import encode_file

    out = target_of(clip, out, ".safetensors", force=force)
    tok = tokenizer(bundle)
    info = encode_file(
        tok,
        clip,
        out,
        selection=selection,
        opening=opening,
        half=half,
        gop=gop,
        form=form,
        force=force,
        quiet=quiet,
    )
    if not quiet:
        click.echo(f"{out}: {info.num_frames} frames of {info.width}x{info.height}, {size_of(out):,} bytes")


@click.command(epilog="Example: vidtok-run decode clip.safetensors -o part.mp4 --start 2.5 --end 75f")
@click.argument("tokens", type=PlaceType(path_type=Path))
@click.option("-o", "--out", type=ANY_FILE, help="Video; - is stdout.  [default: TOKENS with the suffix .decoded.mp4]")
@command(*RANGE, FORCE, *COMMON)
@limited
@written
@engine
def decode(
    tokens: Place,
    out: Place | None,
    output: Output,
    start: str | None,
    end: str | None,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Decode a token file, a part of it, or a folder of segments, into a video (or an image, for one frame).

    A part of tokens that were encoded with --gop, or in windows, decodes from the group that holds its start, otherwise
    from the first frame. Only for the whole is the checksum compared; info --verify does it, too.
    """
    from vidtok_runtime.pipeline.files import decode_file
    from vidtok_runtime.tokens.segments import segments_in
    from vidtok_runtime.tokens.tokens import TokenReader

    out = target_of(str(tokens), out, ".decoded.mp4", force=force)
    found = bundle or TokenReader(segments_in(tokens)[0]).info.find_bundle()
    tok = tokenizer(found)
    info = decode_file(tok, tokens, out, start=start, end=end, output=output, force=force, quiet=quiet)
    if not quiet:
        say(f"{out}: {info.num_frames} frames of {info.width}x{info.height}", out)


@click.command(epilog="Example: vidtok-run reconstruct clip.mp4 --side-by-side --bundle tiny-fsq-32768")
@click.argument("clip")
@click.option("-o", "--out", type=ANY_FILE, help="Video; - is stdout.  [default: CLIP with the suffix .recon.mp4]")
@click.option("--side-by-side", is_flag=True, help="Put the original on the left.")
@command(FORCE, *COMMON)
@limited
@source
@written
@engine
def reconstruct(
    clip: str,
    out: Place | None,
    side_by_side: bool,
    selection: Selection,
    opening: Opening,
    output: Output,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Encode and decode CLIP in one pass and measure PSNR and SSIM; the sound of a file is copied.

    CLIP is what encode takes.
    """
    from vidtok_runtime.pipeline.files import reconstruct_file

    out = target_of(clip, out, ".recon.mp4", force=force)
    tok = tokenizer(bundle)
    quality = reconstruct_file(
        tok,
        clip,
        out,
        selection=selection,
        opening=opening,
        output=output,
        side_by_side=side_by_side,
        force=force,
        quiet=quiet,
    )
    say(f"{out}: {quality.frames} frames, PSNR {quality.psnr:.2f} dB, SSIM {quality.ssim:.4f}", out)


@click.command(epilog="Examples: vidtok-run demo; vidtok-run demo --clip my.mp4 --size 256 --end 5 --out mine/")
@click.option("--clip", type=GIVEN, help="A clip of your own.  [default: a made-up one]")
@click.option("--out", "folder", type=FOLDER, default=Path("vidtok-demo"), show_default=True, help="Folder.")
@command(FORCE, *COMMON)
@source
@engine
def demo(
    clip: Path | None,
    folder: Path,
    selection: Selection,
    opening: Opening,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Encode and decode a clip with all shipped models, or with --bundle alone, and write a picture of all of it.

    It says what came of the clip, what the sizes of the token files mean, and what to try next.
    """
    from vidtok_runtime.tools.demo import run_demo

    bundles = [bundle] if bundle else sorted(shipped_names(), key=lambda name: name != DEFAULT)
    lines = run_demo(tokenizer, bundles, folder, clip, selection=selection, opening=opening, force=force, quiet=quiet)
    for line in lines:
        if not quiet:
            click.echo(line)
