"""What model servers need to know of a bundle: its graphs at one picture size, and how a client calls them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidtok_export.bundle import ROLES, named, put_in_place
from vidtok_export.errors import TargetError
from vidtok_runtime.graph_entry import FIRST_CALL, Flag, GraphEntry, shape_of
from vidtok_runtime.manifest import Manifest, check_file

README = "README.md"


@dataclass(frozen=True)
class Served:
    """A graph of a bundle as a server's model; `sizes` has N, and H and W in pixels."""

    manifest: Manifest
    entry: GraphEntry
    file: Path
    sizes: dict[str, int]

    @property
    def role(self) -> str:
        """`encoder` or `decoder`."""
        return self.entry.role

    @property
    def name(self) -> str:
        """The model's name on the server, fit for a folder and a URL."""
        return f"{re.sub('[^A-Za-z0-9._-]', '_', self.manifest.variant).lstrip('.')}_{self.role}"

    @property
    def start_flag(self) -> Flag | None:
        """The flag that is true in the first call and no other."""
        return next((flag for flag in self.entry.flags if flag.set == (FIRST_CALL,)), None)

    @property
    def other_flags(self) -> list[Flag]:
        """Flags for calls that a server knows nothing about."""
        return [flag for flag in self.entry.flags if flag is not self.start_flag]

    def dims(self, axes: str) -> list[int]:
        """Numbers for axes as text, -1 where any will do."""
        return [
            -1 if axis[0].isalpha() and axis[0] not in self.sizes else shape_of(axis, self.sizes)[0]
            for axis in axes.split()
        ]


def served(manifest: Manifest, size: tuple[int, int], provider: str, precision: str | None) -> list[Served]:
    """Encoder and decoder for frames of a size (width, height), which is rounded up to what the graphs take.

    Raises BundleError.
    """
    width, height = (-(-n // manifest.spatial_multiple) * manifest.spatial_multiple for n in size)
    sizes = {"N": 1, "H": height, "W": width}
    entries = [manifest.graph(role, provider, precision) for role in ROLES]
    return [Served(manifest, entry, check_file(manifest, entry), sizes) for entry in entries]


@contextlib.contextmanager
def new_folder(out: Path, holds: set[str], *, force: bool) -> Iterator[Path]:
    """A folder to fill that gets the name `out` when complete; raises TargetError.

    With `force` it replaces one that holds nothing but the files and folders named in `holds`.
    """
    out = named(out)
    check_target(out, holds, force=force)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        part.mkdir()
        yield part
        check_target(out, holds, force=force)  # something may have come there meanwhile
        put_in_place(part, out)
    except OSError as error:
        raise TargetError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_target(out: Path, holds: set[str], *, force: bool) -> None:
    """Raise TargetError where `new_folder` would."""
    if not out.parent.is_dir():
        raise TargetError(f"the folder {out.parent} does not exist; create it first")
    if not os.path.lexists(out):
        return
    if not force:
        raise TargetError(f"{out} exists already; give --force to replace it, or another name")
    if out.is_symlink() or not out.is_dir() or {path.name for path in out.iterdir()} - holds:
        raise TargetError(f"{out} holds more than the models of this bundle, so it stays; give another name")
