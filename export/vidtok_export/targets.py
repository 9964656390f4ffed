"""Folders that get their name when they are complete, and what may be replaced; without PyTorch and onnx."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vidtok_export.errors import TargetError
from vidtok_runtime.bundle.manifest import Manifest


def named(folder: Path) -> Path:
    """A folder by a path that ends in its name, beside which another can be made; `.` does not."""
    return folder if folder.name else folder.resolve()


def check_bundle(out: Path, *, force: bool) -> None:
    """Raise TargetError when `out` may not be replaced: never anything but a bundle, and that with `force` only."""
    if out.is_dir() and (out / "manifest.json").is_file():
        if not force:
            raise TargetError(f"{out} exists already; give --force to replace it")
    elif os.path.lexists(out):
        raise TargetError(f"{out} exists and is no bundle, so it stays; give --out another name")


def check_precision(manifest: Manifest, precision: str, *, force: bool) -> None:
    """Raise TargetError when a bundle has graphs of a precision already, without `force`."""
    if any(graph.precision == precision for graph in manifest.graphs) and not force:
        raise TargetError(f"{manifest.folder} has {precision} graphs already; give --force to replace them")


def put_in_place(part: Path, out: Path) -> None:
    """Give a complete folder its name; what stood there goes only then."""
    old = out.with_name(f"{out.name}.{os.getpid()}.old")
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
