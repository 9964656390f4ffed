"""Which stream of a file is the film."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from boxes import box, full
from commands import run
from video_files import CPU, PICTURES, difference, make, read

from vidtok_ref.train.clips import FileClip
from vidtok_runtime.errors import VideoError
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Damage, Opening


def streams(path: Path, shapes: list[tuple[int, int]], counts: list[int] | None = None) -> Path:
    """A file with a video stream of each height and width."""
    with av.open(str(path), "w") as file:
        made: list[Any] = []
        for height, width in shapes:
            stream = file.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            made.append(stream)
        for i in range(12):
            for stream, count in zip(made, counts or [12] * len(made), strict=True):
                if i < count:
                    pixels = np.full((stream.height, stream.width, 3), 20 * i, np.uint8)
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame.pts = i
                    file.mux(stream.encode(frame))
        for stream in made:
            file.mux(stream.encode(None))
    return path


def with_cover(path: Path) -> Path:
    """An MP4 with cover art before its film, as players of music write it."""
    make(path)
    cover = io.BytesIO()
    with av.open(cover, "w", format="mjpeg") as file:
        stream: Any = file.add_stream("mjpeg", rate=25)
        stream.height = stream.width = 96
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.full((96, 96, 3), 200, np.uint8), format="rgb24")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    picture = box("covr", box("data", struct.pack(">II", 13, 0), cover.getvalue()))
    handler = full("hdlr", bytes(4), b"mdirappl", bytes(9))
    whole = path.read_bytes()
    at = whole.index(b"moov") - 4
    size = int.from_bytes(whole[at : at + 4], "big")
    end = at + size
    header = 8 + int.from_bytes(whole[at + 8 : at + 12], "big")
    added = box("udta", full("meta", handler, box("ilst", picture)))
    # Before the tracks, so that the cover becomes the first stream; the index is behind the frames.
    assert end == len(whole)
    moov = whole[at + 8 : at + header] + added + whole[at + header : end].replace(b"udta", b"free")
    path.write_bytes(whole[:at] + box("moov", moov))
    return path


def test_cover_art_is_not_the_film(tmp_path: Path) -> None:
    clip = with_cover(tmp_path / "a.mp4")
    with av.open(str(clip)) as file:
        assert [stream.width for stream in file.streams.video] == [96, 64]
    pictures, times, _ = read(clip)
    assert len(pictures) == 12
    assert times[1] == pytest.approx(0.04)
    assert difference(pictures[5], PICTURES[5]) < 11
    film = FileClip(clip, 48)
    assert difference(film.take(np.arange(5, 6))[0], PICTURES[5]) < 11
    [cover], _, _ = read(clip, None, Opening(stream=0))
    assert cover.shape == (96, 96, 3)


def test_threads_choose_the_same_film(tmp_path: Path) -> None:
    """What FFmpeg says of a file goes through a log that all threads share; none of it goes astray."""
    clip = str(with_cover(tmp_path / "a.mp4"))
    script = f"""
import threading
from vidtok_runtime.video.reader import VideoReader

def look():
    for _ in range(40):
        with VideoReader({clip!r}) as reader:
            widths.append(reader.width)

widths = []
threads = [threading.Thread(target=look) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(set(widths), len(widths))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("{64} 160\n", "")


def test_a_preview_is_not_the_film(tmp_path: Path) -> None:
    clip = streams(tmp_path / "a.mkv", [(24, 32), (48, 64), (24, 32)])
    assert [picture.shape for picture in read(clip)[0]] == [(48, 64, 3)] * 12
    film = FileClip(clip, 48)
    assert film.take(np.arange(5, 6)).shape == (1, 48, 64, 3)
    assert abs(float(film.take(np.arange(5, 6)).mean()) - 100) < 5


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])  # the last two do not say how many pictures there are
def test_one_picture_is_not_the_film_beside_one_that_moves(tmp_path: Path, suffix: str) -> None:
    clip = streams(tmp_path / f"a.{suffix}", [(96, 128), (48, 64)], [1, 12])
    assert [picture.shape for picture in read(clip)[0]] == [(48, 64, 3)] * 12
    part, _, _ = read(clip, Selection(start=Fraction(5, 25)))
    assert [picture.shape for picture in part] == [(48, 64, 3)] * 7
    assert [picture.shape for picture in read(clip, None, Opening(stream=0))[0]] == [(96, 128, 3)]


def test_what_was_read_to_find_the_film_of_a_pipe_is_not_lost(tmp_path: Path) -> None:
    for suffix, counts, shape in (("mkv", [1, 12], (48, 64, 3)), ("ts", [12, 1], (96, 128, 3))):
        clip, pipe = streams(tmp_path / f"a.{suffix}", [(96, 128), (48, 64)], counts), tmp_path / f"{suffix}-pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(clip.read_bytes(),))
        writer.start()
        assert [picture.shape for picture in read(pipe)[0]] == [shape] * 12
        writer.join()


def test_the_stream_that_was_asked_for(tmp_path: Path) -> None:
    clip = streams(tmp_path / "a.mkv", [(24, 32), (48, 64)])
    for command in (("encode", clip, "-o", tmp_path / "t.safetensors"), ("dataset", tmp_path, tmp_path / "set")):
        result = run(*command, "--stream", "0", *CPU)
        assert result.exit_code == 0, result.output
    for tokens in (tmp_path / "t.safetensors", *(tmp_path / "set").rglob("*.safetensors")):
        info = TokenReader(tokens).info
        assert (info.height, info.width) == (24, 32)
    result = run("reconstruct", clip, "-o", tmp_path / "b.mkv", "--stream", "0", *CPU)
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "b.mkv")[0][0].shape == (24, 32, 3)
    result = run("eval", clip, "--stream", "0", "--size", "0", "--frames", "9", "--quiet")
    assert result.exit_code == 0, result.output
    assert "9 frames of stream 0" in result.output
    result = run("encode", clip, "-o", tmp_path / "u.safetensors", "--stream", "2", *CPU)
    assert result.exit_code == 1
    assert "has no video stream 2; its video streams are 0 (32x24), 1 (64x48)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_animated_avif_is_a_film(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.avif", codec="libsvtav1", options={"crf": "5"})
    with av.open(str(clip)) as file:
        assert [stream.frames for stream in file.streams.video] == [1, 12]
    pictures, times, _ = read(clip)
    assert len(pictures) == 12
    assert times == pytest.approx([i / 25 for i in range(12)], abs=0.001)
    assert difference(pictures[7], PICTURES[7]) < 11


def test_animated_webp_is_named(tmp_path: Path) -> None:
    still = make(tmp_path / "s.webp", PICTURES[:1], codec="libwebp").read_bytes()
    picture = still[still.index(b"VP8 ") :]
    size = (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    frame = b"ANMF" + struct.pack("<I", 16 + len(picture)) + bytes(6) + size + b"\x64\0\0\0" + picture
    chunks = b"VP8X" + struct.pack("<IB3x", 10, 2) + size + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frame * 8
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    with pytest.raises(VideoError, match="animated WebP, which this FFmpeg cannot decode; convert it"):
        read(tmp_path / "a.webp", None, Opening(Damage.ACCEPTED))
    assert read(tmp_path / "s.webp")[0][0].shape == (48, 64, 3)
