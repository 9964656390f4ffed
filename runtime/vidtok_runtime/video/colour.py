"""Between FFmpeg's pictures and RGB: the one place where matrix, range and orientation are handled.

Where a file does not say: the matrix goes by size (`Display.matrix_for`), luma and chroma have the limited range, grey
the full one. Primaries and transfer are handed on as they are, never converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError, OutputError, VideoError
from vidtok_runtime.video.display import UNSPECIFIED, Display

_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
# Quarters to the left as `_turn` says them.
_QUARTERS = ((False, False, False), (True, False, True), (False, True, True), (True, True, False))
# Shrinks luma and chroma by area and only then makes RGB of them; the same bits on every processor.
_SHRINKING = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_LIMITED_GREY = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


def _turn(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """What makes a picture upright, by its display matrix, to the nearest quarter.

    Whether its axes are swapped, and whether it is then mirrored across and down.
    """
    try:
        # `frame.side_data` would tie the frame to itself, so that its memory waited for the garbage collector.
        data: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    except ValueError:  # PyAV 18 does not know the type of an Exif block beside it; the turn is known all the same
        return _QUARTERS[round(frame.rotation / 90) % 4]
    if data is None:
        return _QUARTERS[0]
    # (x, y) of the stored picture goes to (a x + c y, b x + d y).
    (a, b), (c, d) = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].tolist()
    swapped = abs(b) > abs(a)
    across, down = (c, b) if swapped else (a, d)
    return swapped, across < 0, down < 0


def cut(pixels: NDArray[np.uint8], crop: Sequence[int]) -> NDArray[np.uint8]:
    """`H W 3` without so many pixels at its left, right, top and bottom; raises VideoError where nothing is left."""
    left, right, top, bottom = crop
    height, width = pixels.shape[:2]
    if min(crop) < 0 or left + right >= width or top + bottom >= height:
        raise VideoError(f"its crop {left}:{right}:{top}:{bottom} leaves nothing of pictures of {width}x{height}")
    return pixels[top : height - bottom, left : width - right]


class ToRgb:
    """Turns decoded frames into upright uint8 `H W 3` RGB; `display` is that of the frame looked at last.

    Alpha is dropped: the colour below it counts. 10 and more bits are reduced to 8. crop: see `cut`, before the turn;
    upright: follow the display matrix; threads: 0 for one on each core.
    """

    def __init__(self, crop: Sequence[int] = (0, 0, 0, 0), *, upright: bool = True, threads: int = 0) -> None:
        self._reformatter = VideoReformatter()
        self._crop = crop
        self._upright = upright
        self._threads = threads
        self.display = Display()

    def look(self, frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
        """Height and width that a frame is going to have; aspect: of a pixel as the stream says, None or 0: unknown."""
        chroma, full = _kind(frame)
        colours = Display(
            Fraction(aspect or 1),
            int(frame.colorspace) if chroma else UNSPECIFIED,
            int(frame.color_primaries),
            int(frame.color_trc),
            chroma and full,
        )
        left, right, top, bottom = self._crop
        size = frame.height - top - bottom, frame.width - left - right
        swapped = self._upright and _turn(frame)[0]
        self.display = replace(colours, pixel_aspect=1 / colours.pixel_aspect) if swapped else colours
        return size[::-1] if swapped else size

    def shrinks(self, frame: av.VideoFrame) -> bool:
        """Whether a frame can be asked for at a smaller size: of RGB as it is, the mean is exact only on RGB."""
        return _kind(frame)[0] and not any(self._crop)

    def __call__(self, frame: av.VideoFrame, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
        """Convert, at the frame's own size or, of one that `shrinks`, at a smaller one. Raises VideoError."""
        chroma, full = _kind(frame)
        swapped, across, down = _turn(frame) if self._upright else _QUARTERS[0]
        if swapped:
            height, width = width, height
        small = self.shrinks(frame) and (height, width) not in ((None, None), (frame.height, frame.width))
        named = Display(matrix=int(frame.colorspace) if chroma else UNSPECIFIED)
        matrix = _MATRICES[named.matrix_for(frame.height, frame.width)]
        try:
            rgb = self._reformatter.reformat(
                frame,
                width if small else None,
                height if small else None,
                format="rgb24",
                src_colorspace=matrix,
                dst_colorspace=matrix,
                interpolation=_SHRINKING if small else None,
                src_color_range=ColorRange.JPEG if full or not chroma else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
                threads=1 if small else self._threads,  # a small picture is made before other threads have begun
            )
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"pictures of the format {frame.format.name} cannot be converted: {error}") from error
        pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        if not chroma and not frame.format.is_rgb and frame.color_range == ColorRange.MPEG:
            pixels = _LIMITED_GREY[pixels]  # FFmpeg takes all grey for full range
        pixels = cut(pixels, self._crop)
        if swapped:
            pixels = pixels.transpose(1, 0, 2)
        return np.ascontiguousarray(pixels[:: -1 if down else 1, :: -1 if across else 1])


def _kind(frame: av.VideoFrame) -> tuple[bool, bool]:
    """Whether a frame has luma and chroma, and whether its values have the full range."""
    kind = frame.format
    full = kind.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    return not kind.is_rgb and len(kind.components) >= 3, full


class FromRgb:
    """Turns uint8 `H W 3` RGB into frames of a pixel format, in the matrix and range of a display."""

    def __init__(self, pixel_format: str, display: Display) -> None:
        self._reformatter = VideoReformatter()
        self._format = pixel_format
        self._display = display

    def __call__(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        """Convert; raises InputError unless the pixels are `H W 3`."""
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise InputError(f"a frame is [H, W, 3], got {list(pixels.shape)}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        matrix = _MATRICES[self._display.matrix_for(*pixels.shape[:2])]
        if av.VideoFormat(self._format).is_rgb:
            return self._reformatter.reformat(frame, format=self._format)
        try:
            return self._reformatter.reformat(
                frame,
                format=self._format,
                src_color_range=ColorRange.JPEG,
                dst_colorspace=matrix,
                dst_color_range=ColorRange.JPEG if self._display.full_range else ColorRange.MPEG,
            )
        except av.FFmpegError as error:
            raise OutputError(f"frames cannot be converted to {self._format}: {error}") from error
