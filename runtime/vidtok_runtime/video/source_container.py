"""Video and image files, network addresses and pipes, decoded by FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.format import Flags

from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.files import is_file
from vidtok_runtime.machine import cores
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.video.colour import ToRgb
from vidtok_runtime.video.display import Display
from vidtok_runtime.video.ending import Ending
from vidtok_runtime.video.entry import entry, untimed
from vidtok_runtime.video.ffmpeg_input import FFmpegInput
from vidtok_runtime.video.film import Film, find_film, is_animated_webp, transparent
from vidtok_runtime.video.source import TRANSPARENT, Damage, Opening, Picture
from vidtok_runtime.video.timestamps import Timestamps
from vidtok_runtime.video.tone_map import HDR, ToneMap

NETWORK_TIMEOUT = 30.0  # seconds without an answer
_LIVE = ("rtsp", "rtsps", "rtp", "udp", "tcp", "rtmp", "rtmps")
_MPEG_TURN = 1 << 33  # ticks of an MPEG clock
_MAX_FAILURES = 1000  # in a row, after which no more frames are to be expected


def raw_options(raw: str) -> dict[str, str]:
    """FFmpeg's options for frames without header: `WxH`, `WxH:FORMAT` or `WxH:FORMAT:FPS`; raises InputError."""
    size, pixel_format, fps = [*raw.split(":"), *("rgb24", "25")[raw.count(":") :]][:3]
    try:
        width, height = (int(n) for n in size.split("x"))
        av.VideoFormat(pixel_format)
        valid = min(width, height) > 0 and Fraction(fps) > 0 and raw.count(":") <= 2
    except (ValueError, ZeroDivisionError):
        valid = False
    if not valid:
        raise InputError(f"raw frames are WIDTHxHEIGHT[:FORMAT[:FPS]], like 320x240:rgb24:25, got {raw!r}")
    return {"video_size": size, "pixel_format": pixel_format, "framerate": fps}


def _threads(count: int) -> int:
    """As many as FFmpeg takes for so many cores; it knows nothing of quotas."""
    return min(count + 1, 16) if count > 1 else 1


class ContainerSource:
    """The film (see `find_film`) in what FFmpeg calls by a URL: `file:NAME`, `pipe:0`, `rtsp://...`. Raises VideoError.

    Or in a file of a store, read by ranges.

    Packets that are damaged or cannot be decoded are an error or are left out and counted, as `opening` says; so are
    missing frames at the end, where the header promises a number of frames or a duration. alpha: another stream is
    known to hold its opacity.
    """

    def __init__(self, url: str | RemotePath, opening: Opening, *, alpha: bool = False) -> None:
        scheme = "file" if isinstance(url, RemotePath) else url.partition(":")[0].lower()
        self.path = "stdin" if scheme == "pipe" else str(url).removeprefix("file:")
        self.live = scheme in _LIVE
        # A named pipe is read as stdin is.
        self.replays = isinstance(url, RemotePath) or (scheme == "file" and is_file(Path(self.path)))
        self._url = url
        self._opening = opening
        self._timeout = NETWORK_TIMEOUT if scheme not in ("file", "pipe") else None
        self._threads = opening.threads or _threads(cores())
        self._input = self._open()
        self._container = self._input.container
        self._stream, crop, self._read = self._film(self._container)
        self.fps = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
        self.time_base = Fraction(self._stream.time_base or 1 / self.fps)
        self.sound = bool(self._container.streams.audio)
        self._untimed = untimed(self._container)
        self._convert = ToRgb(crop, threads=self._threads)
        self._tone_map = ToneMap() if opening.tone_map else None
        self._hdr = ""
        self._missing = ""
        self._alpha = alpha
        self._key: int | None = None  # where the source was entered behind its start
        self._wanted: int | None = None  # before this time, only the frame on show at it is
        self._begin()
        self.frame_count = self._ending.frames(self.fps)

    def _open(self) -> FFmpegInput:
        # pattern_type: a file name with a % in it is no pattern
        options = {"pattern_type": "none", **dict(self._opening.options)}
        kind = None
        if self._opening.raw is not None:
            kind, options = "rawvideo", {**options, **raw_options(self._opening.raw)}
        try:
            if "\0" in str(self._url):
                raise OSError("a name holds no NUL byte")
            return FFmpegInput(self._url, format=kind, options=options, timeout=self._timeout)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            if isinstance(error, av.error.PatchWelcomeError) and not self.replays:
                reason = "FFmpeg would have to go back in it; give it as a file"  # a picture in tiles
            raise VideoError(f"{self.path} cannot be opened as a video or image: {reason}") from error

    def _film(self, container: Any) -> Film:
        try:
            film = find_film(container, self.path, self._opening.stream)
        except VideoError:
            container.close()
            raise
        if film.stream.codec_context.name == "exr":  # light as it is; screens want sRGB
            film.stream.codec_context.options = {"apply_trc": "iec61966_2_1"}
        # Threads that decode a frame each would hold as many frames back.
        film.stream.thread_type = "SLICE" if self.live else "AUTO"
        film.stream.thread_count = self._threads
        return film

    @property
    def display(self) -> Display:
        return self._convert.display

    def _begin(self) -> None:
        self._decoded = self._interlaced = self._damaged = self._patched = self._gaps = self._lost = 0
        self._ending = Ending(self._container, self._stream, self.path if self.replays else None)
        turn = _MPEG_TURN if self._container.format.name in ("mpegts", "mpeg") else None
        self._clock = Timestamps(self.time_base, self._step, breaks=self._breaks, turn=turn)

    @property
    def jump(self) -> int | None:
        return self._clock.first_jump

    @property
    def _step(self) -> int:
        return max(1, round(1 / (self.fps * self.time_base)))

    @property
    def _breaks(self) -> bool:
        """Whether the format is made to be cut and joined, so that its times may jump."""
        return bool(self._container.format.flags & Flags.ts_discont.value)

    def seek(self, pts: int) -> bool:
        self._wanted = pts
        # Behind a seek in joined Ogg files FFmpeg reads the one that it is in, as if there were no more.
        if not self.replays or self._container.format.name == "ogg":
            return False
        for seconds in (0, 10):
            # A frame's length early: at the very time that is wanted, another frame may be in front of the key frame.
            target = pts - self._step - int(seconds / self.time_base)
            probe = self._open()
            try:
                key = entry(probe, probe.container.streams[self._stream.index], target, self._breaks)
            finally:
                probe.close()
            if key is not None:
                try:
                    self._input.seek(target, self._stream)
                except (av.FFmpegError, OSError) as error:
                    raise self._unreadable(error) from error
                self._read = None
                self._begin()
                self._key, self._ending.entered = key, True
                return True
        return False

    def pictures(self) -> Iterator[Picture]:
        held: tuple[Any, int] | None = None
        for raw, pts in self._clock.rising(self._decoded_pictures()):
            if held is not None:
                shown = pts - held[1]
                if 2 * shown > 3 * self._step:
                    self._gaps += 1
                    self._lost += round(shown / self._step) - 1
                # What is no longer on show when the wanted frames begin need not be converted.
                if self.replays and (self._wanted is None or pts > self._wanted):
                    yield self._picture(*held, shown)
            held = raw, pts
            if not self.replays:  # where frames come late, none waits for the next
                yield self._picture(*held, None)
        self._check_end()
        if held is not None and self.replays:
            shown = self._ending.shown(held[0]) if held[0].pts == held[1] and not self._missing else 0
            yield self._picture(*held, shown)

    def _picture(self, raw: Any, pts: int, duration: int | None) -> Picture:
        raw = self._tone_map(raw) if self._tone_map else raw
        height, width = self._convert.look(raw, self._stream.sample_aspect_ratio)
        return Picture(height, width, partial(self._convert, raw), self._convert.shrinks(raw), pts, duration or None)

    def _decoded_pictures(self) -> Iterator[tuple[Any, int | None]]:
        """Frames as they are decoded, each with its own time."""
        for packet in self._packets():
            failure = "it is damaged" if packet.is_corrupt else ""
            try:
                pictures = packet.decode()
            except av.FFmpegError as error:
                pictures, failure = [], str(error.strerror)
            if failure:
                self._found_damage(failure)
            for raw in pictures:
                if self._untimed:
                    raw.pts = raw.dts
                if self._key is not None and raw.pts is not None and raw.pts < self._key:
                    continue  # shown before the key frame, and made from what was not read
                self._key = None
                if raw.is_corrupt:
                    self._patched += 1
                    self._found_damage("a picture is damaged", packets=0)
                self._decoded += 1
                self._interlaced += raw.interlaced_frame
                self._alpha |= transparent(packet, raw)
                self._hdr = HDR.get(int(raw.color_trc), self._hdr)
                yield raw, raw.pts

    def _packets(self) -> Iterator[Any]:
        """All packets, going on behind those that cannot be read."""
        packets = failures = 0
        while True:
            try:
                read, self._read = self._read, None
                for packet in self._input.packets(list(self._container.streams), read):
                    failures = 0
                    self._ending.saw(packet)
                    if packet.stream.index != self._stream.index:
                        continue
                    if not packets and is_animated_webp(packet):
                        raise VideoError(
                            f"{self.path} is an animated WebP, which this FFmpeg cannot decode; convert it to .gif, "
                            ".png or a video first"
                        )
                    packets += 1
                    if packet.size or packet.dts is None:  # an empty one repeats the picture before
                        yield packet
            except av.InvalidDataError as error:
                self._check_index(packets, error)
                failures += 1
                if failures > _MAX_FAILURES:
                    raise self._broken(str(error.strerror)) from error
                self._found_damage(str(error.strerror))
                continue
            except IndexError:
                return  # PyAV 18 trips, behind all packets, over a stream that a cut FLV adds while it is read
            except (av.FFmpegError, OSError) as error:
                self._check_index(packets, error)
                raise self._unreadable(error) from error
            return

    def _unreadable(self, error: av.FFmpegError | OSError) -> VideoError:
        reason = "no answer in time" if isinstance(error, av.error.ExitError) else error.strerror or error
        return VideoError(f"{self.path} cannot be read any further: {reason}")

    def _check_index(self, packets: int, error: Exception) -> None:
        """Raise VideoError where frames have gone by when FFmpeg gets to know where they are."""
        seen = not self.replays and "mp4" in self._container.format.name and self._stream.index_entries
        if seen and not packets and not isinstance(error, av.error.ExitError):
            place = "a server that gives no parts of a file" if self._timeout else "a pipe"
            raise VideoError(
                f"{self.path}: this MP4 has its index at the end and cannot be read from {place}; give it as a file, "
                "or bring its index to the front: ffmpeg -i IN -c copy -movflags +faststart OUT"
            ) from error

    def _found_damage(self, reason: str, packets: int = 1) -> None:
        if self._opening.damage is Damage.REFUSED:
            raise self._broken(reason)
        self._damaged += packets

    def _broken(self, reason: str) -> VideoError:
        return VideoError(
            f"{self.path} is broken or truncated after frame {self._decoded}: {reason}; repair or re-download it"
        )

    def _check_end(self) -> None:
        if self.live:
            return
        self._missing = self._ending.missing()
        if self._missing and self._opening.damage is not Damage.ACCEPTED:
            raise VideoError(
                f"{self.path} is truncated: {self._missing}; repair or re-download it, or take what is there with "
                "--keep-going"
            )
        if self._damaged and not self._decoded:
            raise self._broken("none of it can be decoded")

    def notes(self) -> list[str]:
        lines = []
        if self._damaged or self._patched:
            lines.append(
                f"it is damaged: packets that cannot be read or decoded whole: {self._damaged}, "
                f"frames patched up by the decoder: {self._patched}, frames decoded: {self._decoded}"
            )
        # FFmpeg skips a damaged piece of Matroska without a word. A rate that varies has more gaps than that.
        if not self._stream.frames and 0 < 20 * self._gaps <= self._decoded:
            lines.append(f"its times have gaps ({self._gaps}), where about {self._lost} frames may be missing")
        if self._clock.jumps:
            seconds = float(self._clock.jumped * self.time_base)
            lines.append(
                f"its times jump ({self._clock.jumps} times, by {seconds:.1f} seconds in all); what follows was moved "
                "to go on without a break"
            )
        if self._missing:
            lines.append(f"it is truncated: {self._missing}")
        if self._interlaced:
            lines.append(f"{self._interlaced} frames are interlaced and taken as they are, both fields in one picture")
        if self._alpha:
            lines.append(TRANSPARENT)
        if self._hdr and not self._tone_map:
            lines.append(f"it is HDR ({self._hdr}) and taken as it is coded, which looks pale; --tone-map maps it")
        return lines

    def close(self) -> None:
        self._input.close()
