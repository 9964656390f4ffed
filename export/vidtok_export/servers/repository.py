"""The folder that a model server reads: the models of a bundle join those that are there; without PyTorch and onnx."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidtok_export.errors import TargetError
from vidtok_export.targets import named
from vidtok_runtime.bundle.graph_entry import ROLES

CONFIG = "config.json"  # of OpenVINO Model Server; the models of a repository share it


def _plain(variant: str) -> str:
    """A variant's name, fit for a folder and a URL."""
    return re.sub("[^A-Za-z0-9._-]", "_", variant).lstrip(".")


def model_name(variant: str, role: str) -> str:
    """The name of a graph on a server."""
    return f"{_plain(variant)}_{role}"


def rules_name(variant: str) -> str:
    """The file that tells clients what to send."""
    return f"{_plain(variant)}.md"


def check_room(out: Path, variant: str, *, force: bool) -> None:
    """Raise TargetError where the models of a variant cannot be added to the repository `out`."""
    if not out.parent.is_dir():
        raise TargetError(f"the folder {out.parent} does not exist; create it first")
    if os.path.lexists(out) and not out.is_dir():
        raise TargetError(f"{out} is no folder, so it stays; give another name")
    for name in (*(model_name(variant, role) for role in ROLES), rules_name(variant)):
        if os.path.lexists(out / name) and not force:
            raise TargetError(f"{out / name} exists already; give --force to replace it, or another folder")


@contextlib.contextmanager
def added_to(out: Path, variant: str, *, force: bool) -> Iterator[Path]:
    """A folder to fill with the models of a variant, which move into the repository `out` when they are complete.

    A repository that is there keeps all else that it holds. The parts lie beside it, since a server that watches it
    would take them for models. Raises TargetError.
    """
    out = named(out)
    check_room(out, variant, force=force)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    new, old = part / "new", part / "old"
    try:
        new.mkdir(parents=True)
        old.mkdir()
        yield new
        check_room(out, variant, force=force)  # something may have come there meanwhile
        if out.is_dir():
            # The configuration last: what it names is there by then.
            for path in sorted(new.iterdir(), key=lambda path: path.name == CONFIG):
                _replace(path, out / path.name, old / path.name)
        else:
            new.rename(out)
    except OSError as error:
        if isinstance(error, TargetError):
            raise
        raise TargetError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace(new: Path, target: Path, old: Path) -> None:
    """Give `new` the name `target`; what has it goes to `old`, and comes back where that fails."""
    taken = os.path.lexists(target)
    if taken:
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:  # a signal, too
        if taken:
            old.rename(target)
        raise


def joined_config(out: Path, entries: list[dict[str, Any]], *, force: bool) -> dict[str, Any]:
    """The configuration of OpenVINO Model Server in the folder `out`, if there is one, with more models.

    Raises TargetError where it names one of them already, without `force`, or is none.
    """
    path = out / CONFIG
    config: dict[str, Any] = {"model_config_list": []}
    if os.path.lexists(path):
        try:
            config = json.loads(path.read_bytes())
            models = {row["config"]["name"]: row for row in config["model_config_list"]}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise TargetError(f"{path} is no configuration of OpenVINO Model Server; give another folder") from error
        for entry in entries:
            if entry["name"] in models and not force:
                raise TargetError(f"{path} has {entry['name']} already; give --force to replace it, or another folder")
    names = {entry["name"] for entry in entries}
    others = [row for row in config["model_config_list"] if row["config"]["name"] not in names]
    return config | {"model_config_list": [*others, *({"config": entry} for entry in entries)]}
