"""Video and images in: an iterator of RGB frames that never holds more than one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from enum import Enum
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import VideoError
from vidtok_runtime.files import is_folder
from vidtok_runtime.remote import RemotePath, is_remote
from vidtok_runtime.video.selection import Selection, fit_size, placed, resize, scaled_size
from vidtok_runtime.video.source import Frame, Opening, Picture, Source
from vidtok_runtime.video.source_camera import Camera
from vidtok_runtime.video.source_container import ContainerSource
from vidtok_runtime.video.source_images import ImageFolder, open_file

_LONGEST_CAMERA = 4  # digits; longer numbers are names of files, as of those with the time in it


class Kind(Enum):
    """What the name of a source names."""

    FILE = "file"
    FOLDER = "folder"
    CAMERA = "camera"
    REMOTE = "remote"
    ADDRESS = "address"
    STDIN = "stdin"


def kind_of(place: str) -> Kind:
    """What a name names: `-` is stdin, a number that is no file's name a camera, `scheme://...` an address.

    What FFmpeg does not open (s3://, hf://) is remote: a file that fsspec reads by ranges.
    """
    if place == "-":
        return Kind.STDIN
    if is_remote(place):
        return Kind.REMOTE
    if "://" in place:
        return Kind.ADDRESS
    if is_folder(Path(place)):
        return Kind.FOLDER
    if place.isascii() and place.isdigit() and len(place) <= _LONGEST_CAMERA and not os.path.lexists(place):
        return Kind.CAMERA
    return Kind.FILE


def open_source(place: str | PathLike[str] | RemotePath, fps: Fraction | None, opening: Opening) -> Source:
    """The source that a name names; fps: of a folder of images. Raises VideoError."""
    if isinstance(place, RemotePath):
        return open_file(place, opening)
    name = fspath(place)
    match kind_of(name):
        case Kind.REMOTE:
            return open_file(RemotePath.parse(name), opening)
        case Kind.FOLDER:
            return ImageFolder(name, fps, opening)
        case Kind.CAMERA:
            return Camera(int(name))
        case Kind.STDIN:
            return ContainerSource("pipe:0", opening)
        case Kind.ADDRESS:
            return ContainerSource(name, opening)
        case Kind.FILE:
            return open_file(name, opening)


class VideoReader:
    """Frames of a source in display order, turned upright, as the selection asks for; to be iterated once.

    On the source's clock, in seconds: `origin` is when the times of the frames are 0, and `span` the start and the
    end that were asked for. `resampling`: that of `Selection` by which frames get their size, None: they have it.
    Raises VideoError when the source is no video, holds no frame, or is damaged in a way that `opening` does not allow.
    """

    def __init__(
        self,
        place: str | PathLike[str] | RemotePath,
        selection: Selection | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.path = str(place) if isinstance(place, RemotePath) else fspath(place)
        self.selection = selection or Selection()
        self._source = open_source(place, self.selection.fps, opening or Opening())
        try:
            self._start()
        except BaseException:
            self._source.close()
            raise

    def _start(self) -> None:
        source, chosen = self._source, self.selection
        pictures = source.pictures()
        first = next(pictures, None)
        if first is None:
            raise VideoError(f"{self.path} holds no frames")
        own = self._size = first.height, first.width
        self.height, self.width = fit_size(chosen.size, *own)
        self.display = source.display
        if chosen.any_shape and chosen.fit == "stretch":
            self.display = self.display.resized(own, (self.height, self.width))
        self.resampling = self._scaled(first)[1]
        self.live, self.replays, self.sound = source.live, source.replays, source.sound
        self.fps = chosen.fps or source.fps
        self.time_base = 1 / chosen.fps if chosen.fps else source.time_base
        began = first.pts * source.time_base
        counted = began + (chosen.start or 0)
        self.origin = counted if chosen.fps else chosen.zero(source.time_base, first.pts) * source.time_base
        self.span = (
            None if chosen.start is None else began + chosen.start,
            None if chosen.end is None else began + chosen.end,
        )
        wanted = first.pts + int((chosen.start or 0) / source.time_base)
        self._first = first.pts
        entered = wanted > first.pts and source.seek(wanted)
        self._pictures = source.pictures() if entered else itertools.chain([first], pictures)

    @property
    def jump(self) -> Fraction | None:
        """When, by the times of the frames, the first jump so far was that was closed; in seconds."""
        jump = self._source.jump
        return None if jump is None else jump * self._source.time_base - self.origin

    @property
    def frame_count(self) -> int | None:
        """Frames promised or estimated; None when unknown. Of a selection of times or another rate an estimate."""
        count, chosen = self._source.frame_count, self.selection
        length = None if count is None else count / self._source.fps
        if chosen.end is not None:
            length = chosen.end if length is None else min(length, chosen.end)
        if length is None or (chosen.start, chosen.end, chosen.fps) == (None, None, None):
            return count
        return max(0, round((length - (chosen.start or 0)) * self.fps))

    def notes(self) -> list[str]:
        """What was found so far that a user must know, one line each: damage, interlacing, transparency."""
        return self._source.notes()

    def __iter__(self) -> Iterator[Frame]:
        last: Picture | None = None
        for picture in self.selection.shown(self._pictures, self._source.time_base, self._first, self.path):
            if (picture.height, picture.width) != self._size and not self.selection.any_shape:
                raise VideoError(
                    f"{self.path} changes its frame size in the middle; cut it there first, or give --size WIDTHxHEIGHT"
                )
            if last is None or picture.draw is not last.draw:  # else it is shown once more
                pixels = self._drawn(picture)
            last = picture
            yield Frame(pixels, picture.pts, picture.duration)
        if last is None:
            raise VideoError(f"{self.path} has no frame in the time that was asked for")

    def _scaled(self, picture: Picture) -> tuple[tuple[int, int], str | None]:
        """Height and width that a picture gets, before it is cropped or padded, and by which resampling."""
        own = picture.height, picture.width
        height, width = scaled_size(*own, (self.height, self.width), self.selection.fit)
        if (height, width) == own:
            return own, None
        shrinks = picture.shrinks and height <= own[0] and width <= own[1]
        return (height, width), self.selection.resampling if shrinks else "rgb"

    def _drawn(self, picture: Picture) -> NDArray[np.uint8]:
        size, resampling = self._scaled(picture)
        if resampling == "rgb":
            pixels = resize(picture.draw(picture.height, picture.width), *size)
        else:
            pixels = picture.draw(*size)
        return placed(pixels, self.height, self.width)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
