"""Options that several commands share, and what every command does with an expected error."""

from __future__ import annotations

import contextlib
import errno
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from vidtok_runtime.bundle.lookup import DEFAULT
from vidtok_runtime.cli.ending import endings, second_signal_ends, time_limit
from vidtok_runtime.engines.registry import PROVIDERS
from vidtok_runtime.errors import InputError, VidtokError
from vidtok_runtime.files import PartFile
from vidtok_runtime.remote import Place, place_of
from vidtok_runtime.streaming.posterior import LatentForm
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video.reader import Kind, kind_of
from vidtok_runtime.video.selection import FITS, Selection, parse_seconds
from vidtok_runtime.video.source import Damage, Opening
from vidtok_runtime.video.source_container import raw_options
from vidtok_runtime.video.tone_map import check_tone_map
from vidtok_runtime.video.writer import CODECS, STDOUT, STREAMS, Output


def rate(_: click.Context, __: click.Parameter, value: str | None) -> Fraction | None:
    """Frames a second; None for 0, the clip's own."""
    if value is None:
        return None
    try:
        number = Fraction(value)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(f"{value!r} is no frame rate; give 30, 29.97 or 30000/1001") from error
    if number and not Fraction(1, 100) <= number <= 1000:
        raise click.BadParameter(f"a frame rate is 0 (the clip's own) or in 0.01..1000, got {value}")
    return number or None


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> Fraction | None:
    """A time: 90, 1:30 or 0:01:30.5."""
    try:
        return None if value is None else parse_seconds(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


def _pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Options of a library, KEY=VALUE each."""
    pairs = tuple(value.partition("=")[::2] for value in values)
    if not all(key and text for key, text in pairs):
        raise click.BadParameter(f"give KEY=VALUE, got {' '.join(values)}")
    return pairs


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Refuse a moment that means nothing before any work starts."""
    if value is not None:
        from vidtok_runtime.tokens.edit import parse_moment

        try:
            parse_moment(value)
        except InputError as error:
            raise click.BadParameter(str(error)) from error
    return value


def limit(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Seconds that something may take; None for any."""
    if value is not None and not 0 < value <= threading.TIMEOUT_MAX:  # NaN neither
        raise click.BadParameter(f"a time limit is more than 0 seconds, got {value:g}")
    return value


def _devices(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Numbers of devices: 0 or 0,1,2."""
    numbers = value.split(",")
    if not all(number.isascii() and number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
        raise click.BadParameter(f"give numbers of devices, each once, like 0,1, got {value}")
    return tuple(map(int, numbers))


def _memory(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """Bytes; refuse what is no amount before any work starts."""
    from vidtok_runtime.memory.predict import parse_memory

    try:
        return None if value is None else parse_memory(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from error


class PlaceType(click.Path):
    """A path, or a URL that fsspec opens."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            return place_of(value)
        return super().convert(value, param, ctx)


FILE = click.Path(path_type=Path, dir_okay=False)
ANY_FILE = PlaceType(path_type=Path, dir_okay=False)
GIVEN = click.Path(path_type=Path, dir_okay=False, exists=True)
FOLDER = click.Path(path_type=Path, file_okay=False)
ANY_FOLDER = PlaceType(path_type=Path, file_okay=False)
COMMON = [
    click.option("--bundle", help=f"Bundle folder or shipped name.  [default: {DEFAULT}; for tokens: what made them]"),
    click.option("--quiet", is_flag=True, help="No progress bar and no summary."),
]
ENGINE = [
    click.option("--provider", type=click.Choice(["auto", *PROVIDERS]), default="auto", show_default=True),
    click.option("--precision", help="fp32, int8 or fp16, as the bundle offers.  [default: the bundle's first]"),
    click.option(
        "--provider-option", "engine_pairs", multiple=True, callback=_pairs, help="KEY=VALUE for the engine; repeat."
    ),
    click.option("--threads", type=click.IntRange(1), help="CPU threads.  [default: one per core, shared by workers]"),
    click.option(
        "--window", type=click.IntRange(1), help="Frames a window, of models that have any.  [default: as published]"
    ),
    click.option("--max-memory", callback=_memory, help="Shorter calls, then tiles, to stay below, as 4GB."),
]
DEVICE = click.option("--device-id", default=0, show_default=True, help="Number of the CUDA device.")
DEVICES = click.option(
    "--device-id",
    "devices",
    default="0",
    show_default=True,
    metavar="N[,N...]",
    callback=_devices,
    help="Numbers of the CUDA devices, which workers take in turns.",
)
LATENTS = [
    click.option("--half", is_flag=True, help="Store latents as float16 (tokens are exact anyway)."),
    click.option(
        "--sample",
        type=click.IntRange(0, 2**32 - 1),
        metavar="SEED",
        help="Draw latents from the posterior, in place of its mean.",
    ),
    click.option("--with-variance", is_flag=True, help="Store the log variance of latents, too."),
    click.option("--normalize", is_flag=True, help="Apply the release's mean and scale of latents; decode undoes it."),
]
LIMIT = [
    click.option(
        "--time-limit",
        "seconds",
        type=float,
        callback=limit,
        help="End after so many seconds, even if a graph never does.  [default: none]",
    )
]
RANGE = [
    click.option("--start", callback=_moment, help="First frame: seconds (2.5) or frames (75f) into the clip."),
    click.option("--end", callback=_moment, help="The frame after the last, likewise.  [default: the clip's end]"),
]
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
FORCE = click.option("--force", is_flag=True, help="Replace an existing output.")
STREAM = click.option(
    "--stream", type=click.IntRange(0), help="FFmpeg's number of the video stream to take.  [default: its own choice]"
)
SOURCE = [
    click.option("--start", callback=_seconds, help="Begin at this time: seconds, MM:SS or HH:MM:SS."),
    click.option("--end", callback=_seconds, help="End before this time."),
    click.option("--fps", callback=rate, help="Frames a second, by repeating or leaving out; of a folder: its rate."),
    click.option("--size", help="Resize first: WIDTHxHEIGHT, or the shorter side in pixels."),
    click.option("--fit", type=click.Choice(FITS), default="stretch", show_default=True, help="Into WIDTHxHEIGHT."),
    STREAM,
    click.option("--tone-map", is_flag=True, help="Map HDR to ordinary brightness and colours, where FFmpeg can."),
    click.option("--raw", metavar="WxH[:FORMAT[:FPS]]", help="The input is raw frames, like 320x240:rgb24:25."),
    click.option("--input-option", "pairs", multiple=True, callback=_pairs, help="KEY=VALUE for FFmpeg; repeat."),
    click.option("--keep-going", is_flag=True, help="Take what is there of a truncated clip."),
]
OUTPUT = [
    click.option("--codec", type=click.Choice(list(CODECS)), default="h264", show_default=True, help="ffv1: lossless."),
    click.option("--crf", type=click.IntRange(0, 51), help="Quality, 0 is best.  [default: h264 18, h265 20]"),
    click.option(
        "--stdout", type=click.Choice(list(STREAMS)), default="y4m", show_default=True, help="What '-o -' gets."
    ),
]


def _add(options: list[Callable[..., Any]], function: Callable[..., None]) -> Callable[..., None]:
    """`function` with click options in the order listed."""
    for option in reversed(options):
        function = option(function)
    return function


@contextlib.contextmanager
def clean_exit_on_signals(program: str = "vidtok-run") -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit(128 + number), so that what is half-written goes as after any error.

    A second signal ends the process at once, whatever it is doing.
    """
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        yield
        return

    def stop(number: int, _: object) -> None:
        for each in before:  # a second one is answered elsewhere
            signal.signal(each, lambda *_: None)
        with contextlib.suppress(OSError):  # the terminal is gone
            click.echo(f"{program}: stopped by {signal.Signals(number).name}", err=True)
        sys.exit(128 + number)

    before = {number: signal.signal(number, stop) for number in endings()}
    try:
        with second_signal_ends(program):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command(*options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options, and turn expected errors into one line on stderr and exit code 1."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(*args: Any, debug: bool, **kwargs: Any) -> None:
            try:
                with clean_exit_on_signals():
                    function(*args, **kwargs)
            except MemoryError as error:
                click.echo(
                    f"vidtok-run: error: out of memory ({error}); give --max-memory, or a smaller --size", err=True
                )
                sys.exit(1)
            except (VidtokError, OSError) as error:
                if debug or getattr(error, "errno", None) == errno.EPIPE:  # click ends quietly when nobody reads on
                    raise
                click.echo(f"vidtok-run: error: {error}", err=True)
                sys.exit(1)

        return _add([*options, DEBUG], call)

    return wrap


def engine(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of an engine, and give `function` a `tokenizer(bundle)` made of them."""
    return _add([DEVICE, *ENGINE], _with_tokenizer(function))


def engines(function: Callable[..., None]) -> Callable[..., None]:
    """As `engine`, where several devices may be named, whose numbers `function` gets as `devices`."""
    return _add([DEVICES, *ENGINE], _with_tokenizer(function))


def _with_tokenizer(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def call(
        *args: Any,
        provider: str,
        precision: str | None,
        engine_pairs: tuple[tuple[str, str], ...],
        threads: int | None,
        window: int | None,
        max_memory: int | None,
        device_id: int = 0,
        **kwargs: Any,
    ) -> None:
        options: dict[str, Any] = {
            "threads": threads,
            "precision": precision,
            "window": window,
            "device_id": device_id,
            "provider_options": dict(engine_pairs),
            "max_memory": max_memory,
        }
        function(*args, tokenizer=functools.partial(Tokenizer, provider=provider, **options), **kwargs)

    return call


def latents(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of latents that are stored, and give `function` their `form` and `half`."""

    @functools.wraps(function)
    def call(*args: Any, sample: int | None, with_variance: bool, normalize: bool, **kwargs: Any) -> None:
        function(*args, form=LatentForm(sample, with_variance, normalize), **kwargs)

    return _add(LATENTS, call)


def limited(function: Callable[..., None]) -> Callable[..., None]:
    """Add `--time-limit`, after which `function` and the process are ended."""

    @functools.wraps(function)
    def call(*args: Any, seconds: float | None, **kwargs: Any) -> None:
        with time_limit(seconds):
            function(*args, **kwargs)

    return _add(LIMIT, call)


def source(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a source, and give `function` the `selection` and the `opening` made of them."""

    @functools.wraps(function)
    def call(
        *args: Any, stream: int | None, tone_map: bool, raw: str | None, pairs: Any, keep_going: bool, **kwargs: Any
    ) -> None:
        chosen = {name: kwargs.pop(name) for name in ("start", "end", "fps", "size", "fit")}
        try:
            selection = Selection(**chosen)
            if raw is not None:
                raw_options(raw)
        except InputError as error:
            raise click.UsageError(str(error)) from error
        if tone_map:
            check_tone_map()
        opening = Opening(Damage.ACCEPTED if keep_going else Damage.COUNTED, raw, pairs, stream, tone_map=tone_map)
        function(*args, selection=selection, opening=opening, **kwargs)

    return _add(SOURCE, call)


def written(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a video that is written, and give `function` the `output` made of them."""

    @functools.wraps(function)
    def call(*args: Any, codec: str, crf: int | None, stdout: str, **kwargs: Any) -> None:
        try:
            output = Output(codec, crf, stdout)
        except InputError as error:
            raise click.UsageError(str(error)) from error
        function(*args, output=output, **kwargs)

    return _add(OUTPUT, call)


def target_of(place: str, out: Place | None, suffix: str, *, force: bool) -> Place:
    """The output named, or the one beside a file or folder; raises UsageError where there is no beside.

    Raises OutputError when it is there already or cannot be, before an engine is loaded.
    """
    if out is None:
        if kind_of(place) in (Kind.STDIN, Kind.REMOTE, Kind.ADDRESS, Kind.CAMERA) or not Path(place).name:
            raise click.UsageError(f"{place} gives the output no name; give one with --out")
        out = Path(place).with_suffix(suffix)
    if str(out) != STDOUT:
        PartFile(out, force=force)
    return out


def say(text: str, out: Place) -> None:
    """Print to stdout, or to stderr where stdout is the output."""
    click.echo(text, err=str(out) == STDOUT)
