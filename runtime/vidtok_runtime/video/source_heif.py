"""The picture of a HEIF file (.heic, .avif), put together from its tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import VideoError
from vidtok_runtime.video.colour import ToRgb, cut
from vidtok_runtime.video.display import Display
from vidtok_runtime.video.ffmpeg_input import FFmpegInput
from vidtok_runtime.video.film import check_decoder
from vidtok_runtime.video.heif import Heif
from vidtok_runtime.video.source import TRANSPARENT, Picture

_MAX_PIXELS = 1 << 28


class HeifPicture:
    """The primary picture of a file, of one tile or many. Raises VideoError."""

    live = False
    sound = False
    replays = True
    fps = Fraction(25)
    time_base = 1 / fps
    frame_count = 1
    jump = None

    def __init__(self, path: str, layout: Heif) -> None:
        self._path = path
        self._layout = layout
        self.display = Display()
        try:
            self._input = FFmpegInput.of_file(path)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoError(f"{path} cannot be opened as an image: {reason}") from error

    def pictures(self) -> Iterator[Picture]:
        yield Picture.of(self._oriented(self._whole()), 0)

    def _whole(self) -> NDArray[np.uint8]:
        layout = self._layout
        if layout.height * layout.width > _MAX_PIXELS:
            raise VideoError(f"{self._path} is too large: {layout.width}x{layout.height} pixels; scale it down first")
        whole = np.zeros((layout.height, layout.width, 3), np.uint8)
        tiles = dict(self._tiles())
        size = next(iter(tiles.values())).shape[:2] if tiles else (0, 0)
        rows = len(layout.tiles) // layout.columns
        if (
            len(tiles) < len(set(layout.tiles))
            or any(tile.shape[:2] != size for tile in tiles.values())
            or not (size[0] * rows >= layout.height > 0 and size[1] * layout.columns >= layout.width > 0)
        ):
            raise VideoError(
                f"{self._path} gives no whole picture: it is broken, or of a kind that FFmpeg does not know; convert "
                "it to .png first"
            )
        for i, item in enumerate(layout.tiles):
            top, left = i // layout.columns * size[0], i % layout.columns * size[1]
            place = whole[top : top + size[0], left : left + size[1]]
            place[:] = tiles[item][: place.shape[0], : place.shape[1]]
        return whole

    def _tiles(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Item and pixels of each tile, in the order of the file."""
        streams: list[Any] = [s for s in self._input.container.streams.video if s.id in self._layout.tiles]
        convert = ToRgb(upright=False)
        for stream in streams:
            check_decoder(self._input.container, self._path, stream)
            stream.thread_type = "SLICE"  # threads that take a frame each would wait for a second one
        try:
            packets = self._input.packets(streams) if streams else iter(())
            for packet in packets:
                for raw in packet.decode():
                    if raw.is_corrupt:
                        raise VideoError(f"{self._path} is broken: a picture is damaged; repair or re-download it")
                    convert.look(raw, packet.stream.sample_aspect_ratio)
                    yield packet.stream.id, convert(raw)
        except av.FFmpegError as error:
            raise VideoError(f"{self._path} is broken: {error.strerror}; repair or re-download it") from error
        except OSError as error:
            raise VideoError(f"{self._path} cannot be read any further: {error.strerror or error}") from error
        quarters = sum(values[0] for kind, *values in self._layout.steps if kind == "irot")
        shown = convert.display
        self.display = replace(shown, pixel_aspect=1 / shown.pixel_aspect) if quarters % 2 else shown

    def _oriented(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        for kind, *values in self._layout.steps:
            if kind == "irot":
                pixels = np.rot90(pixels, values[0])
            elif kind == "imir":
                pixels = np.flip(pixels, values[0])
            elif kind == "clap":
                pixels = cut(pixels, values)
        return np.ascontiguousarray(pixels)

    def seek(self, pts: int) -> bool:
        """There is one frame."""
        return False

    def notes(self) -> list[str]:
        return [TRANSPARENT] if self._layout.alpha else []

    def close(self) -> None:
        self._input.close()
