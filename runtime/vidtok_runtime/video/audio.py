"""The sound of a clip, copied packet by packet beside new pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import av

from vidtok_runtime.video.ffmpeg_input import FFmpegInput
from vidtok_runtime.video.film import codec_of
from vidtok_runtime.video.reader import VideoReader


class AudioCopy:
    """The audio streams of the file that a VideoReader reads, in the time of its frames.

    Packets are copied, not encoded anew: what a container does not take is left out, and `notes` says so. So is what
    comes behind a jump of times, where sound and pictures may jump by different amounts.
    """

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self._from, self._until = reader.span
        self._notes: list[str] = []
        self._targets: dict[int, Any] = {}
        self._waiting: Any = None
        self._container: Any = None
        if reader.sound and not reader.replays:
            self._notes.append("sound is left out: it is copied from files only")
        elif reader.sound:
            self._input = FFmpegInput.of_file(reader.path)
            self._container = self._input.container
            self._packets = self._read()

    def add_to(self, output: Any) -> None:
        """Make the streams in a container whose header is not written yet."""
        for stream in self._container.streams.audio if self._container else ():
            try:
                if output.default_audio_codec == "none":
                    raise ValueError  # rawvideo would write packets among the pixels
                self._targets[stream.index] = output.add_stream_from_template(stream)
            except ValueError:
                name, knows = codec_of(self._container, stream), stream.codec_context is not None
                reason = f"{output.format.name} does not take it" if knows else "this FFmpeg has no decoder for it"
                self._notes.append(f"sound of the codec {name} is left out: {reason}")

    def packets(self, until: Fraction | None) -> Iterator[Any]:
        """The packets up to a time of the output, in seconds; None: all that are left."""
        if not self._targets:
            return
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = None
            if packet is None:
                return
            time, jump = packet.pts * packet.time_base, self._reader.jump
            if jump is not None and time >= jump:
                self._leave_out(jump)
                self._targets = {}
                return
            if until is not None and time > until:
                self._waiting = packet
                return
            packet.stream = self._targets[packet.stream.index]
            yield packet

    def _leave_out(self, since: Fraction) -> None:
        self._notes.append(
            f"sound is left out from {max(0.0, float(since)):.2f} s on, where the times of the clip jump"
        )

    def _read(self) -> Iterator[Any]:
        last: dict[int, Fraction] = {}  # of each stream
        streams = [s for s in self._container.streams.audio if s.index in self._targets]
        try:
            for packet in self._input.packets(streams):
                if packet.pts is None or packet.dts is None or not packet.size:
                    continue
                time = packet.pts * packet.time_base
                before = last.get(packet.stream.index, time)
                if time < before - 1:  # containers take no times that fall
                    self._leave_out(before - self._reader.origin)
                    return
                last[packet.stream.index] = time
                if (self._from is not None and time < self._from) or (self._until is not None and time >= self._until):
                    continue
                shift = round(self._reader.origin / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                yield packet
        except (av.FFmpegError, OSError, IndexError) as error:  # PyAV trips over a stream that a cut FLV adds
            self._notes.append(f"its sound is broken and ends early: {getattr(error, 'strerror', error)}")

    def notes(self) -> list[str]:
        """What a user must know, one line each."""
        return self._notes

    def close(self) -> None:
        if self._container is not None:
            self._container.close()

    def __enter__(self) -> AudioCopy:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
