"""Baselines: video codecs through PyAV, at the rate of a model and over the range of their rates."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray

from vidtok_runtime.errors import VideoError
from vidtok_runtime.evaluation.protocol import Excerpt


@dataclass(frozen=True)
class Codec:
    """An encoder, its options, and the range of its constant-quality setting, best first."""

    name: str
    encoder: str
    options: dict[str, str]
    crf: tuple[int, int]
    step: float = 1.0
    bitstream_filter: tuple[str, str] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        options = " ".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.encoder} {options}, constant quality, the whole clip at once, yuv420p (odd sizes: yuv444p)"

    def missing(self) -> str | None:
        """Why the codec cannot be used here; None when it can."""
        try:
            av.Codec(self.encoder, "w")
        except ValueError:
            return f"this build of PyAV has no {self.encoder}"
        return None


# Slow presets tuned for PSNR, since PSNR is measured. Encoders that put a text about themselves into the first
# picture are kept from it: in clips as short as these it would be a third of the bits.
CODECS = {
    "h264": Codec(
        "h264",
        "libx264",
        {"preset": "slow", "tune": "psnr"},
        (0, 51),
        0.25,
        bitstream_filter=("filter_units=remove_types=6", "h264"),
    ),
    "h265": Codec(
        "h265",
        "libx265",
        {"preset": "slow", "tune": "psnr", "x265-params": "info=0:log-level=none"},
        (0, 51),
        0.25,
    ),
    "av1": Codec("av1", "libsvtav1", {"preset": "4"}, (1, 63), environment={"SVT_LOG": "1"}),
}


@dataclass(frozen=True)
class Coded:
    """A clip as a codec left it; `bits` are those of the coded pictures, without container and parameter sets."""

    content: bytes
    bits: int

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """The decoded pictures, uint8 `H W 3`."""
        with av.open(io.BytesIO(self.content), "r") as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def encode(codec: Codec, clip: Excerpt, crf: float) -> Coded:
    """Code a clip at a constant quality; raises VideoError when the encoder refuses it."""
    os.environ.update(codec.environment)  # the one way to quiet an encoder that logs past FFmpeg
    buffer, bits = io.BytesIO(), 0
    bitstream = BitStreamFilterContext(*codec.bitstream_filter) if codec.bitstream_filter else None
    try:
        with av.open(buffer, "w", format="matroska") as container:
            options = {**codec.options, "crf": f"{crf:g}"}
            stream: Any = container.add_stream(codec.encoder, rate=clip.fps, options=options)
            stream.height, stream.width = clip.height, clip.width
            stream.pix_fmt = "yuv444p" if clip.height % 2 or clip.width % 2 else "yuv420p"
            stream.codec_context.time_base = 1 / Fraction(clip.fps)

            def pictures() -> Iterator[av.VideoFrame | None]:
                for i, frame in enumerate(clip):
                    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.pixels), format="rgb24")
                    picture.pts = i
                    yield picture
                yield None

            for picture in pictures():
                for packet in stream.encode(picture):
                    for part in bitstream.filter(packet) if bitstream else [packet]:
                        bits += 8 * part.size
                        container.mux(part)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{codec.encoder} does not take {clip.path}: {error}") from error
    return Coded(buffer.getvalue(), bits)


def encode_to(codec: Codec, clip: Excerpt, bits: float) -> Coded:
    """Code a clip at the quality whose size is nearest to `bits`; raises VideoError."""
    best, worst = codec.crf
    # Size falls as the setting rises: halve the range until two neighbours are left.
    low, high = 0, round((worst - best) / codec.step)
    at = functools.cache(lambda i: encode(codec, clip, best + i * codec.step))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).bits > bits else (low, middle)
    return min(at(low), at(high), key=lambda coded: abs(np.log(coded.bits / bits)))
