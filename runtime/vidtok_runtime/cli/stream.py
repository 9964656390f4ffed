"""`stream`: a live source into segments."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from vidtok_runtime.cli.ending import endings
from vidtok_runtime.cli.options import COMMON, FOLDER, command, engine, source
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Opening


def _stop_on_signals() -> threading.Event:
    """An event that Ctrl-C, SIGTERM and SIGHUP set; the second one acts as ever."""
    stop = threading.Event()

    def set_once(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    asked = endings() if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else [signal.SIGINT, *endings()]
    before = {number: signal.signal(number, set_once) for number in asked}
    return stop


@click.command(
    epilog="Examples: vidtok-run stream rtsp://camera/live out/; vidtok-run stream 0 out/ --segment 5 --resume; then "
    "vidtok-run decode out/ -o so-far.mp4"
)
@click.argument("clip")
@click.argument("folder", type=FOLDER)
@click.option("--segment", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Seconds a segment.")
@click.option("--segment-frames", type=click.IntRange(1), help="Frames a segment, instead of seconds.")
@click.option("--queue", type=click.IntRange(1), default=32, show_default=True, help="Frames that may wait.")
@click.option("--resume", is_flag=True, help="Go on behind the segments that are in FOLDER.")
@click.option("--half", is_flag=True, help="Store latents as float16 (tokens are exact anyway).")
@command(*COMMON)
@source
@engine
def stream(
    clip: str,
    folder: Path,
    segment: float,
    segment_frames: int | None,
    queue: int,
    resume: bool,
    half: bool,
    selection: Selection,
    opening: Opening,
    bundle: str | None,
    tokenizer: Callable[..., Tokenizer],
    quiet: bool,
) -> None:
    """Encode CLIP into FOLDER as segments, until it ends or Ctrl-C stops it.

    CLIP is what encode takes. Every segment is a token file that is complete as soon as it has its name and decodes on
    its own; `decode FOLDER` decodes all that are there.
    """
    from vidtok_runtime.pipeline.live import stream_into
    from vidtok_runtime.pipeline.segment_writer import Segmentation

    tok = tokenizer(bundle)
    result = stream_into(
        tok,
        clip,
        folder,
        selection=selection,
        opening=opening,
        plan=Segmentation(Fraction(segment).limit_denominator(1000), segment_frames, queue),
        resume=resume,
        half=half,
        stop=_stop_on_signals(),
        quiet=quiet,
    )
    if not quiet:
        click.echo(f"{folder}: {result.frames} frames in {result.segments} new segments")
