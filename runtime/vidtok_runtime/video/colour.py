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
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
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
_LIMITED_GREY = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


def _orient(pixels: NDArray[np.uint8], frame: av.VideoFrame) -> tuple[NDArray[np.uint8], bool]:
    """Pixels turned and mirrored as the display matrix says (to the nearest quarter), and whether the axes swapped."""
    try:
        # `frame.side_data` would tie the frame to itself, so that its memory waited for the garbage collector.
        data: Any = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    except ValueError:  # PyAV 18 does not know the type of an Exif block beside it; the turn is known all the same
        quarters = round(frame.rotation / 90)
        return np.ascontiguousarray(np.rot90(pixels, quarters)), quarters % 2 == 1
    if data is None:
        return pixels, False
    # (x, y) of the stored picture goes to (a x + c y, b x + d y).
    (a, b), (c, d) = np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2].tolist()
    swapped = abs(b) > abs(a)
    if swapped:
        pixels = pixels.transpose(1, 0, 2)
    across, down = (c, b) if swapped else (a, d)
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]), swapped


def cut(pixels: NDArray[np.uint8], crop: Sequence[int]) -> NDArray[np.uint8]:
    """`H W 3` without so many pixels at its left, right, top and bottom; raises VideoError where nothing is left."""
    left, right, top, bottom = crop
    height, width = pixels.shape[:2]
    if min(crop) < 0 or left + right >= width or top + bottom >= height:
        raise VideoError(f"its crop {left}:{right}:{top}:{bottom} leaves nothing of pictures of {width}x{height}")
    return pixels[top : height - bottom, left : width - right]


class ToRgb:
    """Turns decoded frames into upright uint8 `H W 3` RGB; `display` is that of the latest frame.

    Alpha is dropped: the colour below it counts. 10 and more bits are reduced to 8. crop: see `cut`, before the turn;
    upright: follow the display matrix.
    """

    def __init__(self, crop: Sequence[int] = (0, 0, 0, 0), *, upright: bool = True) -> None:
        self._reformatter = VideoReformatter()
        self._crop = crop
        self._upright = upright
        self.display = Display()

    def __call__(self, frame: av.VideoFrame, aspect: Fraction | None) -> NDArray[np.uint8]:
        """Convert; aspect: of a pixel as the stream says, None or 0 for unknown. Raises VideoError."""
        kind = frame.format
        chroma = not kind.is_rgb and len(kind.components) >= 3
        grey = not kind.is_rgb and not chroma
        full = kind.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        colours = Display(
            Fraction(aspect or 1),
            int(frame.colorspace) if chroma else UNSPECIFIED,
            int(frame.color_primaries),
            int(frame.color_trc),
            chroma and full,
        )
        matrix = _MATRICES[colours.matrix_for(frame.height, frame.width)]
        try:
            rgb = self._reformatter.reformat(
                frame,
                format="rgb24",
                src_colorspace=matrix,
                dst_colorspace=matrix,
                src_color_range=ColorRange.JPEG if full or not chroma else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
            )
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(f"pictures of the format {kind.name} cannot be converted: {error}") from error
        pixels = np.asarray(rgb.to_ndarray(), np.uint8)
        if grey and frame.color_range == ColorRange.MPEG:  # FFmpeg takes all grey for full range
            pixels = _LIMITED_GREY[pixels]
        pixels = cut(pixels, self._crop)
        pixels, swapped = _orient(pixels, frame) if self._upright else (pixels, False)
        self.display = replace(colours, pixel_aspect=1 / colours.pixel_aspect) if swapped else colours
        return pixels


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
