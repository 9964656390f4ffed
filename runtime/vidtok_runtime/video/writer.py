"""Video and images out: frames to a file that appears under its name only when complete, or to stdout."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError, OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.video.audio import AudioCopy
from vidtok_runtime.video.colour import FromRgb
from vidtok_runtime.video.display import Display
from vidtok_runtime.video.look_ahead import frames_ahead

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_IMAGES = {".png", ".jpg", ".jpeg"}
STDOUT = "-"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputCodec:
    """An encoder: its options, its quality where none is given, and what it stores in which containers."""

    encoder: str
    crf: int | None
    options: tuple[tuple[str, str], ...] = ()
    containers: tuple[str, ...] = ("mp4", "mov", "matroska")
    even: str = "yuv420p"  # pixel format of even sizes
    odd: str = "yuv444p"


CODECS = {
    "h264": OutputCodec("libx264", 18, (("forced-idr", "1"),)),
    "h265": OutputCodec("libx265", 20, (("x265-params", "log-level=none"), ("forced-idr", "1"))),
    "ffv1": OutputCodec("ffv1", None, containers=("matroska",), even="bgr0", odd="bgr0"),
}
STREAMS = {
    "y4m": OutputCodec("wrapped_avframe", None),
    "rawvideo": OutputCodec("rawvideo", None, even="rgb24", odd="rgb24"),
}


@dataclass(frozen=True)
class Output:
    """How a video is written.

    codec: h264, h265 or ffv1 (lossless); crf: 0 (best) .. 51, None for the default; stdout: y4m or rawvideo (8-bit
    RGB), what stdout gets. Raises InputError.
    """

    codec: str = "h264"
    crf: int | None = None
    stdout: str = "y4m"

    def __post_init__(self) -> None:
        if self.codec not in CODECS or self.stdout not in STREAMS:
            raise InputError(
                f"codecs are {', '.join(CODECS)}, on stdout {', '.join(STREAMS)}; got {self.codec!r}, {self.stdout!r}"
            )
        if self.crf is not None and (CODECS[self.codec].crf is None or not 0 <= self.crf <= 51):
            raise InputError(f"a crf is 0..51 of a lossy codec, got {self.crf} for {self.codec}")


class VideoWriter:
    """Writes uint8 `H W 3` frames as a video (or one frame as PNG or JPEG), or to stdout (`-`).

    `time_base` is that of the timestamps given to `write`; a stream on stdout has none. `display` says how the
    pictures are shown. Lossy codecs store even sizes as yuv420p, others as yuv444p. Raises OutputError, InputError.
    """

    def __init__(
        self,
        path: str | PathLike[str] | RemotePath,
        fps: Fraction | None = None,
        time_base: Fraction | None = None,
        *,
        display: Display | None = None,
        output: Output | None = None,
        audio: AudioCopy | None = None,
        force: bool = False,
    ) -> None:
        output = output or Output()
        self._target = None if str(path) == STDOUT else PartFile(path, force=force)
        self._suffix = self._target.path.suffix.lower() if self._target else ""
        self._codec = CODECS[output.codec] if self._target else STREAMS[output.stdout]
        self._options = dict(self._codec.options)
        if self._codec.crf is not None:
            self._options["crf"] = str(self._codec.crf if output.crf is None else output.crf)
        if self._target is None:
            self._format = {"y4m": "yuv4mpegpipe", "rawvideo": "rawvideo"}[output.stdout]
        elif self._suffix in _CONTAINERS:
            self._format = _CONTAINERS[self._suffix]
            if self._format not in self._codec.containers:
                raise InputError(f"{path}: {output.codec} goes into an .mkv file; name one")
        elif self._suffix not in _IMAGES:
            raise InputError(
                f"{path}: cannot write {self._suffix or 'a file without suffix'}; "
                f"use one of {', '.join([*_CONTAINERS, *sorted(_IMAGES)])}"
            )
        self._display = display or Display()
        if output.codec == "ffv1" and self._display.pixel_aspect != 1:
            _log.warning("%s: ffv1 is written without the shape of a pixel, %s", path, self._display.pixel_aspect)
        self._fps = fps or Fraction(25)
        self._time_base = time_base or 1 / self._fps
        self._waiting: Any = None  # the latest frame, which may be the last
        self._durations: dict[int, int] = {}  # of frames in the encoder, by their time
        self._usual = max(1, round(1 / (self._fps * self._time_base)))
        self._audio = audio
        self._container: Any = None
        self._stream: Any = None
        self._convert: FromRgb | None = None
        self._count = 0

    def write(self, pixels: NDArray[np.uint8], pts: int, duration: int | None = None) -> None:
        """Add one frame; duration: that of the last counts, 1/fps where it is not given."""
        self._count += 1
        if self._target and self._suffix in _IMAGES:
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
            assert self._convert is not None
            frame = self._convert(pixels)
            stamped = self._target is not None
            frame.pts, frame.time_base = (pts, self._time_base) if stamped else (self._count - 1, 1 / self._fps)
            if not stamped:
                self._mux(self._stream.encode(frame))
                return
            self._durations[pts] = duration or self._usual
            self._waiting, before = frame, self._waiting
            if before is not None:
                self._mux(self._timed(self._stream.encode(before)))
            if self._audio is not None:
                self._mux(self._audio.packets(pts * self._time_base))
        except OutputError:  # which says it already
            raise
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _open(self, height: int, width: int) -> None:
        if self._target:
            self._target.open()  # FFmpeg opens it by its name and writes; the part knows that it is there
        place = str(self._target.part) if self._target else "pipe:1"
        self._container = av.open(f"file:{place}" if self._target else place, "w", format=self._format)
        if self._codec.encoder == "libx264":
            self._options["rc-lookahead"] = str(frames_ahead(height, width))
        self._stream = self._container.add_stream(self._codec.encoder, rate=self._fps, options=self._options)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = self._codec.odd if height % 2 or width % 2 else self._codec.even
        context = self._stream.codec_context
        context.time_base = self._time_base if self._target else 1 / self._fps
        context.sample_aspect_ratio = self._display.pixel_aspect
        context.color_primaries, context.color_trc = self._display.primaries, self._display.transfer
        if not av.VideoFormat(self._stream.pix_fmt).is_rgb:
            context.colorspace = self._display.matrix_for(height, width)
            context.color_range = 2 if self._display.full_range else 1
        self._convert = FromRgb(self._stream.pix_fmt, self._display)
        if self._audio is not None:
            self._audio.add_to(self._container)

    def _finish(self) -> None:
        if self._waiting is not None:
            if self._durations[self._waiting.pts] != self._usual:
                # A key frame is stored last, too: MP4 counts how long frames last in the order they are stored in.
                self._waiting.pict_type = PictureType.I
            self._mux(self._timed(self._stream.encode(self._waiting)))
        self._mux(self._timed(self._stream.encode(None)))

    def _timed(self, packets: Iterable[Any]) -> Iterator[Any]:
        """Packets with the durations of their frames, which encoders forget."""
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            yield packet

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)

    def _failure(self, error: Exception) -> OutputError:
        if self._target is None:
            return OutputError(f"stdout cannot be written: {getattr(error, 'strerror', None) or error}")
        return self._target.failure(error)

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._count == 0:
            raise OutputError(f"{self._target.path if self._target else 'stdout'}: no frame was written")
        if self._container is not None:
            try:
                self._finish()
                if self._audio is not None:
                    self._mux(self._audio.packets(None))
                self._container.close()
            except (av.FFmpegError, OSError) as error:
                raise self._failure(error) from error
            self._container = None
        if self._target is not None:
            self._target.commit()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._container is not None:
            with contextlib.suppress(av.FFmpegError, OSError):  # the file is thrown away
                self._container.close()
        if self._target is not None:
            self._target.discard()
