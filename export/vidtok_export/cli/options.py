"""What the commands of `vidtok-export` share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vidtok_export.errors import ExportError
from vidtok_ref.errors import ModelError, needs_extra
from vidtok_ref.families import find_variant
from vidtok_runtime.cli.descriptors import settle
from vidtok_runtime.cli.options import clean_exit_on_signals
from vidtok_runtime.errors import VidtokError

FILE = click.Path(path_type=Path)
FORCE = click.option("--force", is_flag=True, help="Replace an existing file.")
VARIANT = click.option("--variant", help="Name; --list shows them.  [default: the one inside the checkpoint]")
CHECKPOINT = click.option(
    "--checkpoint",
    type=FILE,
    help="Released weights: a file (.ckpt, .pt, .pth, .bin, .safetensors, .jit), or a folder of them.",
)
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


def loud(function: Callable[..., None]) -> Callable[..., None]:
    """Turn expected errors, and the lack of the extra `export`, into one line on stderr and exit code 1."""

    @functools.wraps(function)
    def call(*args: Any, debug: bool, **kwargs: Any) -> None:
        settle()
        try:
            with clean_exit_on_signals("vidtok-export"), needs_extra("export"):
                function(*args, **kwargs)
        except (ExportError, ModelError, VidtokError) as error:
            if debug:
                raise
            click.echo(f"vidtok-export: error: {error}", err=True)
            sys.exit(1)

    return DEBUG(call)


def _size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """Width and height: 320x180, or 256 for a square."""
    from vidtok_runtime.video.selection import fit_size

    try:
        height, width = fit_size(value, 1, 1)
    except VidtokError as error:
        raise click.BadParameter(str(error)) from error
    return width, height


SIZE = click.option(
    "--size", default="256", show_default=True, callback=_size, help="Of the frames: WIDTHxHEIGHT, or N for a square."
)
PRECISION = click.option("--precision", help="As the bundle offers.  [default: the bundle's first]")


def overrides_of(ch: int | None) -> dict[str, Any]:
    """What `--ch` changes of a variant, also of one that a release's own configuration describes."""
    return {} if ch is None else {"ch": ch}


def chosen_variant(name: str | None, checkpoint: Path | None) -> Any:
    """The named variant, or the one inside the checkpoint."""
    found: Any = name
    if name is None and checkpoint is not None:
        from vidtok_ref.families.weights_file import embedded_variant

        found = embedded_variant(checkpoint)
    if found is None:
        raise click.UsageError("give --variant NAME (--list shows them), or --checkpoint with one that says it itself")
    return find_variant(found)
