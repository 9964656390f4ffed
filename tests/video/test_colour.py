"""Colours and orientation: named, not named, and handed on."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from commands import run
from video_files import CPU, PICTURES, difference, make, read

from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video.display import Display
from vidtok_runtime.video.source import Opening
from vidtok_runtime.video.writer import Output, VideoWriter

MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 5: (0.299, 0.114), 9: (0.2627, 0.0593), 7: (0.212, 0.087)}


def colour_file(path: Path, matrix: int, full: bool, tag: bool, pixels: str, shape: tuple[int, int]) -> np.ndarray:
    """Four frames of one colour each, luma and chroma computed here; returns the colours, `4 3`."""
    colours = np.array([[200, 60, 30], [20, 180, 90], [40, 50, 220], [128, 128, 128]])
    kr, kb = MATRICES[matrix]
    bits = 10 if "10" in pixels else 8
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *shape, pixels
        if tag:
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_range = 2 if full else 1
        for colour in colours / 255:
            luma = colour @ (kr, 1 - kr - kb, kb)
            chroma = [(colour[2] - luma) / 2 / (1 - kb), (colour[0] - luma) / 2 / (1 - kr)]
            top, half, more = 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 8)
            if full:
                values = [luma * top, chroma[0] * top + half, chroma[1] * top + half]
            else:
                values = [(16 + 219 * luma) * more, *((128 + 224 * c) * more for c in chroma)]
            frame = av.VideoFrame(shape[1], shape[0], pixels)
            for plane, value in zip(frame.planes, values, strict=True):
                kind = np.uint8 if bits == 8 else np.uint16
                plane.update(np.full(plane.buffer_size // kind().itemsize, round(value), kind).tobytes())
            frame.colorspace, frame.color_range = (matrix, 2 if full else 1) if tag else (2, 0)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return colours


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_that_are_named(tmp_path: Path, matrix: int, full: bool, pixels: str) -> None:
    wanted = colour_file(tmp_path / "c.mkv", matrix, full, True, pixels, (32, 48))
    found, _, reader = read(tmp_path / "c.mkv")
    assert np.abs([picture[16, 24].astype(int) for picture in found] - wanted).max() <= 3
    assert (reader.display.matrix, reader.display.full_range) == (matrix, full)


@pytest.mark.parametrize(("shape", "matrix"), [((576, 720), 6), ((480, 854), 6), ((720, 1280), 1), ((1280, 640), 1)])
def test_colours_that_are_not_named_go_by_size(tmp_path: Path, shape: tuple[int, int], matrix: int) -> None:
    wanted = colour_file(tmp_path / "c.mkv", matrix, False, False, "yuv420p", shape)
    found, _, _ = read(tmp_path / "c.mkv")
    assert np.abs([picture[16, 24].astype(int) for picture in found] - wanted).max() <= 3


@pytest.mark.parametrize(("kind", "full"), [(1, False), (2, True), (0, True)])
def test_grey_has_a_range_too(tmp_path: Path, kind: int, full: bool) -> None:
    with av.open(str(tmp_path / "g.mkv"), "w") as file:
        stream: Any = file.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "gray"
        stream.codec_context.color_range = kind
        for value in (16, 126, 235):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32), value, np.uint8), format="gray")
            frame.color_range = kind
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    found = [int(picture[3, 3, 1]) for picture in read(tmp_path / "g.mkv")[0]]
    assert found == ([16, 126, 235] if full else [0, 128, 255])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_colours_come_back_and_are_named(tmp_path: Path, matrix: int, full: bool) -> None:
    display = Display(Fraction(4, 3), matrix, primaries=9, transfer=16, full_range=full)
    path = tmp_path / "w.mp4"
    with VideoWriter(path, display=display, output=Output(crf=1)) as writer:
        for i in range(3):
            writer.write(np.full((32, 32, 3), (200, 60, 30), np.uint8), i)
        writer.close()
    found, _, reader = read(path)
    assert reader.display == display
    assert np.abs(found[1][8, 8].astype(int) - (200, 60, 30)).max() <= 3
    assert Display.parse(str(display)) == display


def test_reconstruct_keeps_what_is_said_about_the_picture(tmp_path: Path) -> None:
    said = {"colorspace": 9, "color_range": 2, "color_primaries": 9, "color_trc": 16}
    path = make(tmp_path / "a.mp4", context={**said, "sample_aspect_ratio": Fraction(4, 3)})
    assert run("reconstruct", path, "-o", tmp_path / "r.mkv", *CPU).exit_code == 0
    assert read(tmp_path / "r.mkv")[2].display == Display(Fraction(4, 3), 9, 9, 16, True)


@pytest.mark.parametrize(("turn", "mirror"), [(0, "h"), (0, "v"), (90, "h"), (90, "v"), (90, ""), (270, "")])
def test_turned_and_mirrored(tmp_path: Path, turn: int, mirror: str) -> None:
    """As FFmpeg's own filters would show it: turned against the clock, then mirrored."""
    path = make(tmp_path / "a.mp4", turn=turn, mirror=mirror)
    wanted = np.rot90(PICTURES[5], turn // 90)
    wanted = wanted[:, ::-1] if mirror == "h" else wanted[::-1] if mirror == "v" else wanted
    assert difference(read(path)[0][5], wanted) < 6


def test_exif_turns_a_photograph(tmp_path: Path) -> None:
    picture = synthetic_frame(3, 40, 64)
    content = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    path = tmp_path / "p.jpg"
    path.write_bytes(content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:])
    found, _, _ = read(path)
    assert difference(found[0], np.rot90(picture, -1)) < 6


def test_decoded_frames_do_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    clip = make(tmp_path / "c.mkv", PICTURES)
    script = f"""
import gc
from vidtok_runtime.video.reader import VideoReader

def read():
    with VideoReader({str(clip)!r}) as reader:
        return len(list(reader))

read()
gc.collect()
gc.disable()
print(read(), gc.collect())
"""
    # In a process of its own: other tests leave garbage, and threads that make some.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    frames, left = map(int, done.stdout.split())
    assert left < frames == len(PICTURES)


def test_hdr_is_said_and_mapped_where_ffmpeg_can(tmp_path: Path) -> None:
    said = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
    path = make(tmp_path / "a.mp4", context=said)
    _, _, reader = read(path)
    assert reader.notes() == ["it is HDR (PQ) and taken as it is coded, which looks pale; --tone-map maps it"]
    if "zscale" in av.filter.filters_available:
        mapped, _, reader = read(path, None, Opening(tone_map=True))
        assert (reader.display.transfer, reader.display.primaries, reader.notes()) == (1, 1, [])
        assert mapped[0].std() > 0
    else:
        result = run("encode", path, "-o", tmp_path / "t.safetensors", "--tone-map", *CPU)
        assert result.exit_code == 1
        assert "--tone-map needs FFmpeg's filter zscale, which the FFmpeg of PyAV here lacks" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_exr_is_linear_light(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("exr", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "gbrpf32le"
        frame = av.VideoFrame(16, 16, "gbrpf32le")
        for plane in frame.planes:
            plane.update(np.full((16, plane.line_size // 4), 0.5, "<f4").tobytes())
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    found, _, _ = read(path)
    assert np.abs(found[0].astype(int) - 188).max() <= 1  # sRGB of half the light
    assert len(read(tmp_path)[0]) == 1
