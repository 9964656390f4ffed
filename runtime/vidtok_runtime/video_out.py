"""Video and images out: frames to a file that appears under its name only when complete."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from os import PathLike
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError, OutputError
from vidtok_runtime.files import PartFile

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_IMAGES = {".png", ".jpg", ".jpeg"}


class VideoWriter:
    """Writes uint8 `H W 3` frames as H.264 (or one frame as PNG or JPEG).

    Odd sizes are stored as yuv444p, others as yuv420p. `time_base` is that of the timestamps given
    to `write`. Raises OutputError, InputError.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        fps: Fraction | None = None,
        time_base: Fraction | None = None,
        *,
        force: bool = False,
    ) -> None:
        self._target = PartFile(path, force=force)
        self._suffix = self._target.path.suffix.lower()
        if self._suffix not in _CONTAINERS.keys() | _IMAGES:
            raise InputError(
                f"{path}: cannot write {self._suffix or 'a file without suffix'}; "
                f"use one of {', '.join([*_CONTAINERS, *sorted(_IMAGES)])}"
            )
        self._fps = fps or Fraction(25)
        self._time_base = time_base or 1 / self._fps
        self._container: Any = None
        self._stream: Any = None
        self._count = 0

    def write(self, pixels: NDArray[np.uint8], pts: int) -> None:
        """Add one frame."""
        self._count += 1
        if self._suffix in _IMAGES:
            if self._count > 1:
                raise InputError(f"{self._target.path} is an image, the clip has several frames; write a video")
            done, content = cv2.imencode(self._suffix, pixels[:, :, ::-1])
            assert done
            self._target.open()
            self._target.write(content.tobytes())
            return
        try:
            if self._container is None:
                self._open(*pixels.shape[:2])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = pts, self._time_base
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise self._target.failure(error) from error

    def _open(self, height: int, width: int) -> None:
        self._container = av.open(str(self._target.part), "w", format=_CONTAINERS[self._suffix])
        self._stream = self._container.add_stream("libx264", rate=self._fps, options={"crf": "18"})
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        self._stream.codec_context.time_base = self._time_base

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._count == 0:
            raise OutputError(f"{self._target.path}: no frame was written")
        if self._container is not None:
            try:
                self._container.mux(self._stream.encode(None))
                self._container.close()
            except (av.FFmpegError, OSError) as error:
                raise self._target.failure(error) from error
            self._container = None
        self._target.commit()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._container is not None:
            with contextlib.suppress(av.FFmpegError, OSError):  # the file is thrown away
                self._container.close()
        self._target.discard()
