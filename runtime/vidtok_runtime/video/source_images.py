"""A folder of images as a clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vidtok_runtime.errors import VideoError
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.video.display import Display
from vidtok_runtime.video.heif import read_heif
from vidtok_runtime.video.source import Opening, Picture, Source
from vidtok_runtime.video.source_container import ContainerSource
from vidtok_runtime.video.source_heif import HeifPicture

SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".avif",
    ".exr",
    ".heic",
    ".heif",
}


def open_file(path: str | RemotePath, opening: Opening) -> Source:
    """A picture or a film; raises VideoError."""
    heif = read_heif(str(path)) if opening.stream is None else None
    if heif is not None and not heif.film:
        return HeifPicture(str(path), heif)
    url = path if isinstance(path, RemotePath) else f"file:{path}"
    return ContainerSource(url, opening, alpha=heif is not None and heif.alpha)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts numbers within names by their value, so that 10 comes after 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]


class ImageFolder:
    """The images of a folder in the natural order of their names, at `fps` (25 where none is given).

    Raises VideoError.
    """

    live = False
    sound = False
    replays = True
    jump = None

    def __init__(self, folder: str, fps: Fraction | None, opening: Opening) -> None:
        self._opening = opening
        self.fps = fps or Fraction(25)
        self.time_base = 1 / self.fps
        try:
            found = Path(folder).iterdir()
            paths = [path for path in found if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
        except OSError as error:
            raise VideoError(f"{folder} cannot be read: {error.strerror}") from error
        self._paths = sorted(paths, key=_natural)
        if not self._paths:
            raise VideoError(f"{folder} holds no images ({' '.join(sorted(SUFFIXES))})")
        self._next = 0
        self._notes: dict[str, int] = {}
        self.display = Display()

    @property
    def frame_count(self) -> int:
        return len(self._paths)

    def pictures(self) -> Iterator[Picture]:
        while self._next < len(self._paths):
            index, self._next = self._next, self._next + 1
            source = open_file(str(self._paths[index]), self._opening)
            try:
                picture = next(source.pictures(), None)
                self.display = source.display
                for note in source.notes():
                    self._notes[note] = self._notes.get(note, 0) + 1
            finally:
                source.close()
            if picture is None:
                raise VideoError(f"{self._paths[index]} holds no picture")
            yield replace(picture, pts=index, duration=1)

    def seek(self, pts: int) -> bool:
        self._next = min(pts, len(self._paths) - 1)
        return True

    def notes(self) -> list[str]:
        return [f"in {count} of the images: {note}" for note, count in self._notes.items()]

    def close(self) -> None:
        """Nothing stays open between two images."""
