"""Outputs that appear under their name only when complete."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import stat
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from hashlib import sha256
from os import PathLike
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from vidtok_runtime.errors import OutputError
from vidtok_runtime.lists import few
from vidtok_runtime.remote import Place, RemotePath, place_of

_log = logging.getLogger(__name__)
_KEPT = 40  # letters of a target's name in that of its part
_ODD_ON_WINDOWS = re.compile(
    r'[\x00-\x1f<>:"\\|?*]|[ .]$|^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)', re.IGNORECASE
)


def files_in(place: Path) -> list[Path]:
    """All files below a folder in order, or the one file. Links are followed, but not back into a folder above.

    What cannot be read is said in a line.
    """
    if is_file(place):
        return [place]
    lost: list[str] = []
    files = sorted(_walk(place, frozenset(), lost))
    if lost:
        _log.warning("%s: left out: %s", place, few(lost))
    return files


def _walk(folder: Path, above: frozenset[tuple[int, int]], lost: list[str]) -> Iterator[Path]:
    try:
        status = folder.stat()
        paths = list(folder.iterdir())
    except OSError as error:
        lost.append(f"the folder {folder}: {error.strerror}")
        return
    own = status.st_dev, status.st_ino
    if own in above:
        return
    for path in paths:
        if is_folder(path):
            yield from _walk(path, above | {own}, lost)
        elif is_file(path):
            yield path
        elif path.is_symlink():
            lost.append(f"{path}, a link that leads to no file")


def is_hidden(path: PurePath) -> bool:
    """Whether it is what systems and copying tools leave beside files: .DS_Store, ._clip.mp4, __MACOSX."""
    return path.name.startswith(".") or "__MACOSX" in path.parts


def is_file(path: Place) -> bool:
    """Whether a regular file is there: no folder, pipe or device, and no name that cannot be one."""
    if isinstance(path, RemotePath):
        return path.is_file()
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # too long a name, or a NUL in it
        return False


def sweep_parts(folder: Place, targets: Collection[Place]) -> None:
    """Remove the parts of targets below a folder that killed processes left there; in a store there are none."""
    if isinstance(folder, RemotePath):
        return
    begun = {path.with_name(part_stem(path)) for path in targets}
    for part in folder.rglob("*.part"):
        if part.with_name(part.name.rsplit(".", 2)[0]) in begun:
            with contextlib.suppress(OSError):
                part.unlink()


def is_pipe(path: Place) -> bool:
    """Whether there is a named pipe; False also for names that cannot be any."""
    try:
        return isinstance(path, Path) and path.is_fifo()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there, for any name."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_below(name: str, *, windows: bool = os.name == "nt") -> bool:
    """Whether a name with slashes that a stranger chose, put behind a folder, names a file below that folder.

    On Windows a backslash, a drive, a stream of a file (`a:b`), a device (`aux.mp4`) and a name that the system would
    shorten (`a .`) lead elsewhere.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0].startswith("/") or ".." in parts or "\0" in name:
        return False
    return not windows or not any(_ODD_ON_WINDOWS.search(part) for part in parts)


def part_stem(path: Place) -> str:
    """What the name of a part begins with: the target's, which is cut where it is long, as names have a limit."""
    name = path.name
    return name if len(name) <= _KEPT else f"{name[:_KEPT]}~{sha256(os.fsencode(name)).hexdigest()[:8]}"


# Parts that may be there, and whose turn it is to make, name or remove one.
_parts: set[Path] = set()
_turn = threading.RLock()


def discard_parts() -> None:
    """Remove all parts of this process and let it make and name none any more: it is about to end."""
    _turn.acquire()
    for part in _parts:
        with contextlib.suppress(OSError):
            part.unlink()


class PartFile:
    """A target written beside itself under a name ending in `.part` and renamed when complete.

    The part of a target in a store lies in the folder for temporary files and is sent when complete.
    Of two writers without `force` the first to finish wins; the other one's file does not appear. `force` replaces
    regular files and nothing else: no folder, link, device or pipe. Raises OutputError when the target exists (without
    `force`), may not be replaced, or cannot be written.
    """

    def __init__(self, path: str | PathLike[str] | RemotePath, *, force: bool = False) -> None:
        self.path = place_of(path)
        self.force = force
        if isinstance(self.path, RemotePath):
            folder = Path(tempfile.gettempdir())
            self._check_remote(self.path)
        else:
            folder = self.path.parent
            self._check(self.path)
        # Random, since process ids repeat across containers.
        self.part = folder / f"{part_stem(self.path)}.{os.getpid()}-{secrets.token_hex(4)}.part"
        self._file: BinaryIO | None = None

    def _check(self, path: Path) -> None:
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            mode = None
        except (OSError, ValueError) as error:  # a name that cannot be one
            raise self.failure(error) from error
        if mode is not None and not self.force:
            raise self._exists()
        if is_folder(path):
            raise OutputError(f"{path} is a folder; name a file")
        if mode is not None and not stat.S_ISREG(mode):
            what = "a link" if stat.S_ISLNK(mode) else "a device, pipe or socket"
            raise OutputError(f"{path} is {what}, and only regular files are replaced; name another output")
        if not is_folder(path.parent):
            raise OutputError(f"the folder {path.parent} does not exist; create it first")

    def _check_remote(self, path: RemotePath) -> None:
        try:
            path.check_target()
            taken = not self.force and path.is_file()
        except OSError as error:
            raise self.failure(error) from error
        if taken:
            raise self._exists()

    def open(self) -> None:
        """Create the part for writing."""
        try:
            with _turn:
                self._file = self.part.open("xb")
                _parts.add(self.part)
        except OSError as error:
            raise self.failure(error) from error

    def write(self, content: bytes, at: int | None = None) -> None:
        """Write to the open part, where the last write ended or at a byte offset."""
        assert self._file is not None
        try:
            if at is not None:
                self._file.seek(at)
            self._file.write(content)
        except OSError as error:
            self.discard()
            raise self.failure(error) from error

    def write_whole(self, content: bytes) -> None:
        """Make the file of these bytes; raises OutputError."""
        try:
            self.open()
            self.write(content)
            self.commit()
        finally:
            self.discard()  # nothing left to discard after a commit

    def write_through(self, fill: Callable[[BinaryIO], None]) -> None:
        """Make the file of what `fill` writes to a binary file that it may also seek in; raises OutputError."""
        self.open()
        try:
            with self.part.open("wb") as file:
                fill(file)
        except OSError as error:
            raise self.failure(error) from error
        else:
            self.commit()
        finally:
            self.discard()

    def commit(self) -> None:
        """Close the part, make it durable and give it the target's name."""
        try:
            if self._file is not None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._file = None
            if isinstance(self.path, RemotePath):
                self.path.send(self.part, force=self.force)
                self.discard()
            else:
                self._name(self.path)
        except FileExistsError as error:
            self.discard()
            raise self._exists() from error
        except OSError as error:
            self.discard()
            raise self.failure(error) from error

    def _name(self, path: Path) -> None:
        """Give the part the target's name, without `force` only if nothing has it; raises FileExistsError, OSError."""
        with _turn:
            if self.force:
                os.replace(self.part, path)
            else:
                self._link(path)
            _parts.discard(self.part)

    def _link(self, path: Path) -> None:
        try:
            os.link(self.part, path)
            self.part.unlink()
        except FileExistsError:
            raise
        except OSError:  # a file system without links: an empty file holds the name until it is replaced
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            os.replace(self.part, path)

    def discard(self) -> None:
        """Remove the part, if it is still there."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk fails again while flushing; the part goes anyway
                self._file.close()
            self._file = None
        with _turn, contextlib.suppress(OSError):
            self.part.unlink(missing_ok=True)
            _parts.discard(self.part)

    def _exists(self) -> OutputError:
        return OutputError(f"{self.path} exists already; give --force to replace it")

    def failure(self, error: Exception) -> OutputError:
        """The error to raise when writing fails."""
        return OutputError(f"{self.path} cannot be written: {getattr(error, 'strerror', None) or error}")
