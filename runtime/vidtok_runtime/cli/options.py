"""Options that several commands share, and what every command does with an expected error."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
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


FILE = click.Path(path_type=Path, dir_okay=False)
GIVEN = click.Path(path_type=Path, dir_okay=False, exists=True)
FOLDER = click.Path(path_type=Path, file_okay=False)
COMMON = [
    click.option("--bundle", help="Bundle folder or shipped name.  [default: tiny-kl-16chn; decode: found by hash]"),
    click.option("--quiet", is_flag=True, help="No progress bar and no summary."),
]
ENGINE = [
    click.option("--provider", type=click.Choice(["auto", *PROVIDERS]), default="auto", show_default=True),
    click.option("--precision", help="fp32, int8 or fp16, as the bundle offers.  [default: the bundle's first]"),
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


def command(*options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
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


def engine(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of an engine, and give `function` a `tokenizer(bundle)` made of them."""

    @functools.wraps(function)
    def call(
        *args: Any,
        provider: str,
        precision: str | None,
        device_id: int,
        threads: int | None,
        window: int | None,
        **kwargs: Any,
    ) -> None:
        options: dict[str, Any] = {
            "threads": threads,
            "precision": precision,
            "window": window,
            "device_id": device_id,
        }
        function(*args, tokenizer=functools.partial(Tokenizer, provider=provider, **options), **kwargs)

    return _add(ENGINE, call)
