"""A camera, read by OpenCV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from vidtok_runtime.errors import VideoError
from vidtok_runtime.video.display import Display
from vidtok_runtime.video.source import Picture


class Camera:
    """The camera of an index; timestamps are microseconds since the first frame. Raises VideoError."""

    live = True
    sound = False
    replays = False
    time_base = Fraction(1, 1_000_000)
    frame_count = None
    jump = None
    display = Display()

    def __init__(self, index: int) -> None:
        self._index = index
        logging: Any = cv2.utils.logging
        level = logging.setLogLevel(0)  # what goes wrong is said once, below
        self._capture = cv2.VideoCapture(index)
        logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise VideoError(f"no camera {index} can be opened; see that it is plugged in, free and yours to read")
        self.fps = Fraction(self._capture.get(cv2.CAP_PROP_FPS) or 30).limit_denominator(1001)

    def pictures(self) -> Iterator[Picture]:
        began: float | None = None
        pts = -1
        while True:
            there, pixels = self._capture.read()
            if not there:
                raise VideoError(f"camera {self._index} gives no more frames; see that it is still plugged in")
            now = time.monotonic()
            began = now if began is None else began
            pts = max(pts + 1, round((now - began) / self.time_base))
            yield Picture.of(np.ascontiguousarray(pixels[:, :, ::-1]), pts)

    def seek(self, pts: int) -> bool:
        """Time passes; what lies before the start is thrown away."""
        return False

    def notes(self) -> list[str]:
        return []

    def close(self) -> None:
        self._capture.release()
