"""`cut`, `cat`, `convert`: token files without decoding them."""

from __future__ import annotations

from pathlib import Path

import click

from vidtok_runtime.cli.options import FILE, FORCE, RANGE, command

OUT = click.option("-o", "--out", type=FILE, required=True, help="The file to write.")


@click.command(epilog="Example: vidtok-run cut clip.safetensors -o part.safetensors --start 2.5 --end 75f")
@click.argument("tokens", type=FILE)
@OUT
@command(*RANGE, FORCE)
def cut(tokens: Path, out: Path, start: str | None, end: str | None, force: bool) -> None:
    """Write a part of a token file, with what decoding it needs, as a token file.

    Without --gop or windows this is all that comes before its end.
    """
    from vidtok_runtime.tokens.edit import cut_file

    info = cut_file(tokens, out, start, end, force=force)
    click.echo(f"{out}: {info.num_frames} frames, {out.stat().st_size:,} bytes")


@click.command(name="cat", epilog="Example: vidtok-run cat a.safetensors b.safetensors -o both.safetensors")
@click.argument("tokens", type=FILE, nargs=-1, required=True)
@OUT
@command(FORCE)
def join(tokens: tuple[Path, ...], out: Path, force: bool) -> None:
    """Write token files one after another as one.

    They come from one bundle and, but for the last, hold whole groups (of one --gop, or windows) or are of one length.
    """
    from vidtok_runtime.tokens.edit import join_files

    info = join_files(tokens, out, force=force)
    click.echo(f"{out}: {info.num_frames} frames, {out.stat().st_size:,} bytes")


@click.command(
    epilog="Examples: vidtok-run convert clip.safetensors -o clip.npz; vidtok-run convert clip.npz -o clip.safetensors"
)
@click.argument("source", type=FILE)
@OUT
@command(FORCE)
def convert(source: Path, out: Path, force: bool) -> None:
    """Write tokens in another format, chosen by the suffixes, losing nothing.

    .safetensors: token file; .npz: NumPy arrays; .tar: one webdataset sample; .bin: raw numbers, with a .json beside
    that describes them.
    """
    from vidtok_runtime.tokens.convert import convert_file

    convert_file(source, out, force=force)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")
