"""`view`: pictures and charts of what a tokenizer does."""

from __future__ import annotations

from collections.abc import Callable

import click

from vidtok_runtime.cli.options import COMMON, FILE, FORCE, command, engine, limited, source, target_of
from vidtok_runtime.remote import Place, place_of
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Damage, Opening


@click.command(
    epilog="Examples: vidtok-run view clip.mp4; vidtok-run view clip.safetensors --original clip.mp4 -o sheet.png"
)
@click.argument("place", metavar="TOKENS|CLIP")
@click.option("-o", "--out", type=FILE, help=".html or .png.  [default: the name with the suffix .view.html]")
@click.option("--original", metavar="CLIP", help="What the tokens were made of, to show errors.")
@click.option("--frames", type=click.IntRange(1, 24), default=5, show_default=True, help="Frames shown as pictures.")
@command(FORCE, *COMMON)
@limited
@source
@engine
def view(
    place: str,
    out: Place | None,
    original: str | None,
    frames: int,
    selection: Selection,
    opening: Opening,
    force: bool,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Write a report on TOKENS or CLIP: a page (HTML, one file) or a contact sheet (PNG).

    It shows frames beside what comes back of them, where the errors are, the tokens as colours, how the codebook or
    the latent channels are used, and PSNR over time. TOKENS is a token file or a folder of segments, CLIP is what
    encode takes; --start, --end, --fps, --size and the like are those of the clip or the original.
    """
    from vidtok_runtime.tokens.segments import holds_tokens, segments_in
    from vidtok_runtime.tokens.tokens import TokenReader
    from vidtok_runtime.view.run import view_clip, view_tokens

    out = target_of(place, out, ".view.html", force=force)
    options = {"force": force, "quiet": quiet}
    if holds_tokens(place):
        if original is None and (selection, opening) != (Selection(), Opening(Damage.COUNTED)):
            raise click.UsageError("there are options for the original, which is not named; give --original CLIP")
        found = bundle or TokenReader(segments_in(place)[0]).info.find_bundle()
        study = view_tokens(tokenizer(found), place_of(place), out, frames, original, selection, opening, **options)
    else:
        if original is not None:
            raise click.UsageError(f"--original goes with tokens; {place} is a clip itself")
        study = view_clip(tokenizer(bundle), place, out, frames, selection, opening, **options)
    if not quiet:
        figures = ", ".join(f"{name} {value}" for name, value in study.figures().items())
        click.echo(f"{out}: {study.frames} frames, {figures}")
