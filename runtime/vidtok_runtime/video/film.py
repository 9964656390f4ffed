"""Which stream of a container is the film, and what FFmpeg knows of it that PyAV has no attribute for."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import av
import av.logging
from av.stream import Disposition

from vidtok_runtime.errors import VideoError

# What other threads' decoders say while one asks is for those who listen to this log, not for stderr.
logging.getLogger("libav").addHandler(logging.NullHandler())
_PAUSE = 0.001  # seconds in which others have Python's lock
_LOCK = threading.Lock()
_WORTH_OF_DEFAULT = 5_000_000  # pixels, as in FFmpeg's own choice
_MAX_LOOK = 32 << 20  # bytes of packets, behind which no second picture of a stream is looked for


class Film(NamedTuple):
    """A video stream, and the pixels that the container cuts off its pictures: left, right, top, bottom.

    packets: those of all streams that come first, where some were read to find the film.
    """

    stream: Any
    crop: tuple[int, int, int, int]
    packets: Iterator[Any] | None = None


def find_film(container: Any, path: str, wanted: int | None = None) -> Film:
    """The stream of the index `wanted`, or the one that FFmpeg takes where none is named. Raises VideoError.

    That is the largest; one flagged as the default counts 5 million pixels more. Attached pictures (covers) and parts
    of a picture are never the film, and one picture is only where nothing moves.
    """
    videos = container.streams.video
    told = _told(container)
    named = (s for s in videos if s.index == wanted)
    stream, packets = _choose(container, path, told) if wanted is None else (next(named, None), None)
    if stream is None:
        there = ", ".join(f"{s.index} ({_size(told[s.index])})" for s in videos)
        if wanted is None:
            covers = f" but attached pictures, of which --stream takes one: {there}" if there else ""
            raise VideoError(f"{path} has no video stream{covers}")
        raise VideoError(f"{path} has no video stream {wanted}; its video streams are {there or 'none'}")
    check_decoder(container, path, stream)
    crop = re.search(r"^ +Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", told[stream.index], re.M)
    left, right, top, bottom = map(int, crop.groups()) if crop else (0, 0, 0, 0)
    return Film(stream, (left, right, top, bottom), packets)


def _choose(container: Any, path: str, told: dict[int, str]) -> tuple[Any, Iterator[Any] | None]:
    videos = container.streams.video
    films = [s for s in videos if not s.disposition & (Disposition.attached_pic | Disposition.dependent)]
    # Of a picture in tiles the parts are dependent; what else is there (a small copy, a depth map) is not the picture.
    tiles = any(s.disposition & Disposition.dependent for s in videos)
    if tiles and not any(s.disposition & Disposition.default for s in films):
        raise VideoError(
            f"{path} is a picture in tiles that cannot be put together from here; give it as a file of its own, or "
            "convert it to .png first"
        )

    def worth(stream: Any) -> int:
        width, height = map(int, _size(told[stream.index]).split("x"))
        return width * height + _WORTH_OF_DEFAULT * bool(stream.disposition & Disposition.default)

    films = sorted((s for s in films if s.frames != 1), key=worth, reverse=True) or [
        max(films, key=worth, default=None)
    ]
    if len(films) == 1 or films[0].frames:
        return films[0], None
    # Matroska, MPEG-TS and MP4 in fragments do not say how many pictures there are.
    packets, came = _look(container, films[0].index)
    return next((s for s in films if s.frames or came[s.index] > 1), films[0]), packets


def _look(container: Any, index: int) -> tuple[Iterator[Any], Counter[int]]:
    """Read up to the second packet of a stream: all packets anew, and how many of each stream came."""
    packets: Iterator[Any] = container.demux(list(container.streams))
    seen: list[Any] = []
    came: Counter[int] = Counter()
    room = _MAX_LOOK
    try:
        for packet in packets:
            seen.append(packet)
            came[packet.stream.index] += packet.size > 0
            room -= packet.size
            if came[index] > 1 or room < 0:
                break
    except (av.FFmpegError, OSError, IndexError) as error:
        packets = _raising(error)
    return itertools.chain(seen, packets), came


def _raising(error: Exception) -> Iterator[Any]:
    """For those who read on: they find what was found here."""
    raise error
    yield


def check_decoder(container: Any, path: str, stream: Any) -> None:
    """Raise VideoError where FFmpeg has no decoder for a stream of pictures."""
    if stream.codec_context is None:
        raise VideoError(
            f"{path} holds pictures of the codec {codec_of(container, stream)}, for which this FFmpeg has no decoder; "
            "convert it to another codec first, with a program that has one"
        )


def codec_of(container: Any, stream: Any) -> str:
    """The name of a stream's codec, as far as FFmpeg or the container knows it."""
    if stream.codec_context is not None:
        return str(stream.codec_context.name)
    line = _told(container)[stream.index].partition("\n")[0]
    found = re.match(r".*?: \w+: (\w+)(?:.*?\(([^()]+) / 0x)?", line)
    name, tag = found.groups() if found else ("none", None)
    return str(name if name != "none" else tag or _matroska_name(container) or "unknown")


def _matroska_name(container: Any) -> str | None:
    """The codec that FFmpeg says it does not know when it opens a file."""
    if not container.name.startswith("file:"):
        return None
    with _speaking(), av.logging.Capture() as lines:
        av.open(container.name, metadata_errors="replace").close()
    found = re.search(r"Unknown/unsupported AVCodecID (\S+)\.$", "".join(line[2] for line in lines), re.M)
    return found and found[1]


def transparent(packet: Any, frame: Any) -> bool:
    """Whether a decoded picture has an opacity beside its colours, decoded or (VP8, VP9) left out by the decoder."""
    if packet.stream.codec_context.name == "mjpeg":
        return False  # the fourth channel of a JPEG is black, and already in its colours
    if any(component.is_alpha for component in frame.format.components):
        return True
    opacity = (1).to_bytes(8, "big")  # of the additions that a Matroska block can have
    return packet.stream.codec_context.name.removeprefix("lib").startswith(("vp8", "vp9", "vpx")) and any(
        side.data_type == "matroska_block_additional" and bytes(side)[:8] == opacity for side in packet.iter_sidedata()
    )


def is_animated_webp(packet: Any) -> bool:
    """Whether FFmpeg's decoder for pictures of WebP is given an animation, which it does not know."""
    content = bytes(packet)[:21] if packet.stream.codec_context.name == "webp" else b""
    return content[8:16] == b"WEBPVP8X" and len(content) == 21 and bool(content[20] & 2)


def _size(told: str) -> str:
    found = re.search(r", (\d+x\d+)\b", told.partition("\n")[0])
    return found[1] if found else "0x0"


def _told(container: Any) -> dict[int, str]:
    """What FFmpeg prints of each stream, by index."""
    with _speaking():
        text = container.dumps_format()
    parts = re.split(r"^ +Stream #0:(\d+)", text, flags=re.M)
    return {int(index): part for index, part in zip(parts[1::2], parts[2::2], strict=True)}


@contextmanager
def _speaking() -> Iterator[None]:
    """Let FFmpeg say more than errors meanwhile; how much it says is a setting of the process.

    PyAV takes Python's lock to pass a word on. A decoding thread of another file that had something to say meanwhile
    still waits for that lock, and would for ever, were its file closed next: closing holds it and waits for the thread.
    """
    with _LOCK:
        before = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            yield
        finally:
            av.logging.set_level(before)
            time.sleep(_PAUSE)
