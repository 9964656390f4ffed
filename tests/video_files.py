"""Video files as people have them, made with PyAV, and what the tests of inputs have in common."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from click.testing import Result
from commands import run

from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.writer import Output, VideoWriter

CPU = ("--provider", "cpu", "--threads", "1", "--quiet")
PICTURES = [synthetic_frame(3 * i, 48, 64) for i in range(12)]
TRANSPARENT = "it has transparency, which is dropped: the colours below it count"


def lossless(path: Path, pictures: list[np.ndarray]) -> Path:
    """A video file (.mkv) of RGB pictures, the same in every run; lossy encoders round now so, now so."""
    with VideoWriter(path, output=Output("ffv1")) as writer:
        for i, pixels in enumerate(pictures):
            writer.write(pixels, i)
        writer.close()
    return path


def make(
    path: Path,
    pictures: list[np.ndarray] | None = None,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    base: Fraction = Fraction(1, 25),
    context: dict[str, Any] | None = None,
    turn: int = 0,
    mirror: str = "",
    options: dict[str, str] | None = None,
    sound: str | None = None,
    sound_begins: int = 0,
    container: dict[str, Any] | None = None,
) -> Path:
    """A video file of RGB pictures, or of raw frames that are ready; sound_begins: its second."""
    pictures = PICTURES if pictures is None else pictures
    with av.open(str(path), "w", **(container or {})) as file:
        stream: Any = file.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = base
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        if turn or mirror:
            stream.set_display_rotation(turn, hflip=mirror == "h", vflip=mirror == "v")
        audio: Any = file.add_stream(sound, rate=48000) if sound else None
        if audio is not None:
            audio.layout = "mono"
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = (times or range(len(pictures)))[i], base
            file.mux(stream.encode(frame))
            if audio is not None:
                tone = np.sin(np.arange(1920) / 9)[None].astype(np.float32) / 4
                wave = av.AudioFrame.from_ndarray(tone, format="flt", layout="mono")
                wave.rate, wave.pts, wave.time_base = 48000, 48000 * sound_begins + i * 1920, Fraction(1, 48000)
                file.mux(audio.encode(wave))
        file.mux(stream.encode(None))
        if audio is not None:
            file.mux(audio.encode(None))
    return path


def read(path: Path | str, *args: Any) -> tuple[list[np.ndarray], list[float], VideoReader]:
    with VideoReader(path, *args) as reader:
        frames = list(reader)
    times = [float(frame.pts * reader.time_base) for frame in frames]
    return [frame.pixels for frame in frames], times, reader


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.float64) - b).mean())


def round_trip(clip: Path | str, folder: Path, *options: object) -> tuple[Result, Path]:
    """Encode and decode on the command line; returns the result of encoding and the video that came back."""
    tokens, back = folder / "t.safetensors", folder / "back.mkv"
    encoded = run("encode", clip, "-o", tokens, *options, *CPU)
    assert encoded.exit_code == 0, encoded.output
    decoded = run("decode", tokens, "-o", back, *CPU)
    assert decoded.exit_code == 0, decoded.output
    return encoded, back


def numbered(number: int) -> np.ndarray:
    """A picture whose eight columns are the bits of a number."""
    bits = [220 if number >> i & 1 else 30 for i in range(8)]
    return np.broadcast_to(np.repeat(np.uint8(bits), 8)[None, :, None], (64, 64, 3)).copy()


def number_of(picture: np.ndarray) -> int:
    return sum(int(picture[:, 8 * i : 8 * i + 8].mean() > 125) << i for i in range(8))


UNEVEN = [0, 1, 2, 5, 6, 30, 31, 32, 33, 60, 61, 100]
FILES: dict[str, dict[str, Any]] = {
    "variable frame rate": {"name": "a.mp4", "times": UNEVEN, "base": Fraction(1, 90)},
    "variable frame rate, Matroska": {"name": "a.mkv", "times": UNEVEN, "base": Fraction(1, 1000)},
    "first timestamp not 0": {"name": "a.mkv", "times": [40 + i for i in range(12)]},
    "B-frames": {"name": "a.mp4", "options": {"bf": "3"}},
    "turned a quarter": {"name": "a.mp4", "turn": 90},
    "upside down": {"name": "a.mp4", "turn": 180},
    "odd size": {"name": "a.mp4", "pixels": "yuv444p", "pictures": [synthetic_frame(i, 37, 51) for i in range(12)]},
    "portrait": {"name": "a.mp4", "pictures": [synthetic_frame(i, 80, 48) for i in range(12)]},
    "10 bits": {
        "name": "a.mkv",
        "codec": "libx265",
        "pixels": "yuv420p10le",
        "options": {"x265-params": "log-level=0"},
    },
    "pixels that are not square": {"name": "a.mp4", "context": {"sample_aspect_ratio": Fraction(16, 15)}},
    "MPEG-TS": {"name": "a.ts", "base": Fraction(1, 25)},
    "AVI, MPEG-4": {"name": "a.avi", "codec": "mpeg4"},
    "WebM, VP9": {"name": "a.webm", "codec": "libvpx-vp9"},
    "AV1": {"name": "a.mp4", "codec": "libsvtav1"},
    "ProRes, 10 bits 4:2:2": {"name": "a.mov", "codec": "prores_ks", "pixels": "yuv422p10le"},
    "MJPEG": {"name": "a.avi", "codec": "mjpeg", "pixels": "yuvj420p"},
    "grey": {"name": "a.mkv", "codec": "ffv1", "pixels": "gray"},
    "transparency": {"name": "a.mkv", "codec": "ffv1", "pixels": "yuva420p"},
    "RGB": {"name": "a.mkv", "codec": "ffv1", "pixels": "bgr0"},
    "animated GIF": {"name": "a.gif", "codec": "gif", "pixels": "rgb8", "base": Fraction(1, 100), "times": None},
    "no duration (H.264 without container)": {"name": "a.h264"},
    "no duration (Matroska on a pipe)": {"name": "a.mkv", "container": {"options": {"live": "1"}}},
    "interlaced": {"name": "a.mp4", "options": {"flags": "+ildct+ilme"}, "interlaced": True},
}


def damaged(path: Path, name: str) -> Path:
    """Sixty frames of noise, with one packet overwritten or the end cut off."""
    rng = np.random.default_rng(0)
    make(path, [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(60)], options={"g": "10", "bf": "0"})
    if name == "middle":
        with av.open(str(path)) as file:
            packets = [p for p in file.demux(video=0) if p.size]
            size = packets[33].size
            content = bytes(packets[33])
        whole = path.read_bytes()
        at = whole.find(content)
        assert at > 0
        path.write_bytes(whole[: at + 8] + b"\xff" * (size - 8) + whole[at + size :])
    elif name == "end":
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
    return path
