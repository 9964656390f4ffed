"""Files as people have them, made here with PyAV: what comes in, and what comes back of geometry and time."""

from __future__ import annotations

import functools
import http.server
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from vidtok_runtime.cli import main
from vidtok_runtime.demo import synthetic_frame
from vidtok_runtime.display import Display
from vidtok_runtime.errors import InputError, OutputError, VideoError
from vidtok_runtime.files import PartFile
from vidtok_runtime.selection import Selection
from vidtok_runtime.tokens import TokenReader
from vidtok_runtime.video_in import VideoReader
from vidtok_runtime.video_out import Output, VideoWriter

CPU = ("--provider", "cpu", "--threads", "1", "--quiet")
PICTURES = [synthetic_frame(3 * i, 48, 64) for i in range(12)]


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in args])


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
    container: dict[str, Any] | None = None,
) -> Path:
    """A video file of RGB pictures, or of raw frames that are ready."""
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
                wave.rate, wave.pts, wave.time_base = 48000, i * 1920, Fraction(1, 48000)
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


@pytest.mark.parametrize("case", FILES)
def test_frames_and_times_survive(case: str, tmp_path: Path) -> None:
    """Count, times, size and pixel shape come back to the frame; the pictures that are encoded are upright."""
    values = dict(FILES[case])
    path = tmp_path / values.pop("name")
    values.pop("interlaced", None)
    make(path, values.pop("pictures", None), **values)
    pictures, times, reader = read(path)
    assert len(pictures) == 12
    assert times == sorted(set(times))
    encoded, back = round_trip(path, tmp_path)
    same, back_times, back_reader = read(back)
    assert len(same) == 12
    assert back_times == pytest.approx(times, abs=0.0006)  # Matroska counts milliseconds
    assert (back_reader.height, back_reader.width) == (reader.height, reader.width)
    assert back_reader.display.pixel_aspect == reader.display.pixel_aspect
    if values.get("times"):
        wanted = [float(t * values.get("base", Fraction(1, 25))) for t in values["times"]]
        assert times == pytest.approx(wanted, abs=0.0006)
    if case == "turned a quarter":
        assert difference(pictures[5], np.rot90(PICTURES[5])) < 6
    elif case == "upside down":
        assert difference(pictures[5], np.rot90(PICTURES[5], 2)) < 6
    elif values.get("codec") != "gif" and case not in ("odd size", "portrait", "grey"):
        assert difference(pictures[5], PICTURES[5]) < 11
    assert ("interlaced" in encoded.stderr) == (case == "interlaced")
    assert ("transparency" in encoded.stderr) == (case in ("transparency", "animated GIF"))


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


@pytest.mark.parametrize("name", ["i.png", "i.jpg", "i.webp", "i.bmp", "i.tiff", "a%d.png", "12:30.png", "-i.png"])
def test_images(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = cv2.imencode(Path(name).suffix, PICTURES[0][:, :, ::-1])[1]
    Path(name).write_bytes(content.tobytes())
    found, _, _ = read(name)
    assert len(found) == 1
    assert difference(found[0], PICTURES[0]) < 6


@pytest.mark.parametrize("kind", ["16 bits", "grey", "transparent"])
def test_images_of_other_kinds(tmp_path: Path, kind: str) -> None:
    picture = PICTURES[0][:, :, ::-1]
    grey = np.ascontiguousarray(picture[:, :, 0])
    images = {
        "16 bits": picture.astype(np.uint16) * 257,
        "grey": grey,
        "transparent": np.dstack([picture, grey]),
    }
    cv2.imwrite(str(tmp_path / "i.png"), images[kind])
    (found,), _, reader = read(tmp_path / "i.png")
    wanted = np.dstack([grey] * 3) if kind == "grey" else PICTURES[0]
    assert difference(found, wanted) < 1
    assert bool(reader.notes()) == (kind == "transparent")


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, picture in enumerate(PICTURES):
        cv2.imwrite(str(folder / f"frame{i}.png"), picture[:, :, ::-1])  # frame10 comes after frame9
    (folder / "notes.txt").write_text("not an image")
    found, times, _ = read(folder, Selection(fps=Fraction(10)))
    assert all(np.array_equal(a, b) for a, b in zip(found, PICTURES, strict=True))
    assert times == pytest.approx([i / 10 for i in range(12)])
    found, times, _ = read(folder, Selection(start=Fraction(1, 2), fps=Fraction(10)))
    assert np.array_equal(found[0], PICTURES[5])
    assert len(found) == 7
    assert run("encode", folder, *CPU).exit_code == 0
    assert TokenReader(tmp_path / "frames.safetensors").info.num_frames == 12
    cv2.imwrite(str(folder / "frame99.png"), PICTURES[0][:20])
    with pytest.raises(VideoError, match="changes its frame size"):
        read(folder)
    assert read(folder, Selection(size="32x32"))[0][-1].shape == (32, 32, 3)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(VideoError, match="holds no images"):
        read(empty)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.h264"])
@pytest.mark.parametrize(
    ("start", "end"), [(0, 3), (Fraction(37, 10), None), (2, Fraction(21, 5)), (Fraction(39, 10), 9)]
)
def test_a_part_of_a_clip(tmp_path: Path, name: str, start: Fraction, end: Fraction | None) -> None:
    """Frames at the start and before the end, whatever lies between key frames."""
    path = make(tmp_path / name, [numbered(i) for i in range(120)], options={"g": "40", "bf": "2"})
    found, times, _ = read(path, Selection(start=Fraction(start), end=end))
    wanted = [i for i in range(120) if i / 25 >= start and (end is None or i / 25 < end)]
    assert [number_of(picture) for picture in found] == wanted
    assert times == pytest.approx([i / 25 - float(start) for i in wanted], abs=0.001)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("fps", "count"), [(5, 10), (25, 50), (50, 100), (Fraction(30000, 1001), 60)])
def test_another_rate(tmp_path: Path, name: str, fps: Fraction, count: int) -> None:
    path = make(tmp_path / name, [numbered(i) for i in range(60)])
    found, times, reader = read(path, Selection(end=Fraction(2), fps=Fraction(fps)))
    assert len(found) == count
    assert times == pytest.approx([i / float(fps) for i in range(count)])
    wanted = [int(time * 25 + 0.01) for time in times]  # the one on show
    assert [number_of(picture) for picture in found] == wanted
    assert reader.frame_count == count


def test_fit() -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 200
    from vidtok_runtime.selection import fitted

    padded = fitted(wide, 32, 32, "pad")
    assert padded.shape == (32, 32, 3)
    assert padded[:8].max() == padded[24:].max() == 0
    assert padded[16, 16, 0] == 200
    assert fitted(wide, 32, 32, "crop").min() == 200
    stretched = fitted(wide, 32, 32, "stretch")
    assert stretched[0, 0, 0] == 0
    assert stretched[0, 16, 0] == 200


@pytest.mark.parametrize(("fit", "aspect"), [("stretch", Fraction(4, 3)), ("crop", 1), ("pad", 1)])
def test_the_shape_of_the_picture_is_kept(tmp_path: Path, fit: str, aspect: Fraction) -> None:
    path = make(tmp_path / "a.mp4")
    _, back = round_trip(path, tmp_path, "--size", "32x32", "--fit", fit)
    found, _, reader = read(back)
    assert found[0].shape == (32, 32, 3)
    assert reader.display.pixel_aspect == aspect


@pytest.mark.parametrize(
    "values",
    [{"size": "big"}, {"fit": "bend"}, {"start": Fraction(-1)}, {"start": Fraction(3), "end": Fraction(3)}, {"fps": 0}],
)
def test_selections_that_mean_nothing(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Selection(**values)


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


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_damage_in_the_middle(tmp_path: Path, suffix: str) -> None:
    path = damaged(tmp_path / f"a{suffix}", "middle")
    result, back = round_trip(path, tmp_path)
    line = [line for line in result.stderr.splitlines() if "warning" in line]
    assert len(line) == 1
    assert "damaged" in line[0]
    count = len(read(back)[0])
    assert 50 <= count <= 60
    assert line[0].endswith(f"frames decoded: {count}")
    with pytest.raises(VideoError, match="broken"):  # measuring and training want none of it
        read(path)


def test_frames_lost_without_a_word_are_told_from_their_times(tmp_path: Path) -> None:
    """FFmpeg skips what it cannot read of a Matroska file, and gives no error."""
    path = damaged(tmp_path / "a.mkv", "nothing")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 4000] = bytes(4000)
    path.write_bytes(whole)
    result = run("encode", path, "-o", tmp_path / "t.safetensors", *CPU)
    assert result.exit_code == 0, result.output
    lost = 60 - TokenReader(tmp_path / "t.safetensors").info.num_frames
    assert lost > 0
    assert f"its times have gaps (1), where about {lost} frames may be missing" in result.stderr


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_a_clip_without_its_end(tmp_path: Path, suffix: str) -> None:
    path = damaged(tmp_path / f"a{suffix}", "end")
    out = tmp_path / "t.safetensors"
    result = run("encode", path, "-o", out, *CPU)
    if suffix == ".ts":  # nothing in an MPEG transport stream says where it ends
        assert result.exit_code == 0
    else:
        assert result.exit_code == 1
        assert "truncated" in result.stderr
        assert "--keep-going" in result.stderr
        assert not out.exists()
        result = run("encode", path, "-o", out, "--keep-going", *CPU)
        assert result.exit_code == 0, result.output
        assert "it is truncated: " in result.stderr
    assert 30 <= TokenReader(out).info.num_frames < 60


@pytest.mark.parametrize(
    ("name", "sound", "out", "kept"),
    [
        ("a.mp4", "aac", "r.mp4", True),
        ("a.mkv", "libopus", "r.mkv", True),
        ("a.ts", "aac", "r.mp4", True),
        ("a.mov", "pcm_s16le", "r.mkv", True),
        ("a.mkv", "pcm_u8", "r.mp4", False),
    ],
)
def test_sound_is_kept(tmp_path: Path, name: str, sound: str, out: str, kept: bool) -> None:
    path = make(tmp_path / name, sound=sound)
    result = run("reconstruct", path, "-o", tmp_path / out, *CPU)
    assert result.exit_code == 0, result.output
    if not kept:
        assert "sound" in result.stderr
        return
    before, after = sounds(path), sounds(tmp_path / out)
    assert [content for _, content in after] == [content for _, content in before]
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=0.0011)


def sounds(path: Path) -> list[tuple[float, bytes]]:
    """Start and content of every audio packet; the header that AAC has in MPEG-TS left out."""
    with av.open(str(path)) as file:
        packets = [packet for packet in file.demux(audio=0) if packet.size]
        skip = 7 if path.suffix == ".ts" else 0
        return [(float(packet.pts * packet.time_base), bytes(packet)[skip:]) for packet in packets]


def test_sound_of_a_part(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", PICTURES * 5, sound="libopus")
    out = tmp_path / "r.mkv"
    result = run("reconstruct", path, "-o", out, "--start", "1", "--end", "0:02", *CPU)
    assert result.exit_code == 0, result.output
    wanted = [(time - 1, content) for time, content in sounds(path) if 1 <= time < 2]
    found = sounds(out)
    assert [content for _, content in found] == [content for _, content in wanted]
    assert [time for time, _ in found] == pytest.approx([time for time, _ in wanted], abs=0.0011)
    assert len(read(out)[0]) == 25


@pytest.mark.parametrize("shape", [(48, 64), (37, 51)])
@pytest.mark.parametrize("stream", ["y4m", "rawvideo"])
def test_frames_through_pipes(tmp_path: Path, stream: str, shape: tuple[int, int]) -> None:
    """Decode -o - | encode -: the same frames as through a lossless file, as far as the format allows."""
    clip, tokens = tmp_path / "a.mkv", tmp_path / "t.safetensors"
    with VideoWriter(clip, output=Output("ffv1")) as writer:
        for i in range(9):
            writer.write(synthetic_frame(i, *shape), i)
        writer.close()
    command = [sys.executable, "-m", "vidtok_runtime.cli"]
    assert run("encode", clip, "-o", tokens, *CPU).exit_code == 0
    assert run("decode", tokens, "-o", tmp_path / "b.mkv", "--codec", "ffv1", *CPU).exit_code == 0
    raw = subprocess.run(
        [*command, "decode", tokens, "-o", "-", "--stream", stream, *CPU[:-1]], capture_output=True, check=True
    )
    assert b"9 frames" in raw.stderr
    wanted = read(tmp_path / "b.mkv")[0]
    if stream == "rawvideo":
        assert np.array_equal(np.frombuffer(raw.stdout, np.uint8).reshape(9, *shape, 3), np.stack(wanted))
    options = ["--raw", f"{shape[1]}x{shape[0]}:rgb24:30"] if stream == "rawvideo" else []
    done = subprocess.run(
        [*command, "encode", "-", "-o", tmp_path / "u.safetensors", *options, *CPU],
        input=raw.stdout,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    info = TokenReader(tmp_path / "u.safetensors").info
    assert (info.num_frames, info.height, info.width) == (9, *shape)
    assert info.fps == (30 if stream == "rawvideo" else 25)


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    tokens = tmp_path / "t.safetensors"
    assert run("encode", make(tmp_path / "a.mp4", PICTURES * 20), "-o", tokens, *CPU).exit_code == 0
    command = (
        f"{sys.executable} -m vidtok_runtime.cli decode {tokens} -o - --provider cpu --quiet | head -c 100 > /dev/null"
    )
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    assert done.stderr.strip() == "vidtok-run: error: stdout cannot be written: Broken pipe"


def test_ffv1_is_lossless(tmp_path: Path) -> None:
    for shape in ((48, 64), (37, 51)):
        pictures = [np.random.default_rng(i).integers(0, 256, (*shape, 3), np.uint8) for i in range(3)]
        with VideoWriter(tmp_path / "l.mkv", output=Output("ffv1"), force=True) as writer:
            for i, picture in enumerate(pictures):
                writer.write(picture, i)
            writer.close()
        assert all(np.array_equal(a, b) for a, b in zip(read(tmp_path / "l.mkv")[0], pictures, strict=True))
    with pytest.raises(InputError, match="mkv"):
        VideoWriter(tmp_path / "l.mp4", output=Output("ffv1"))
    with pytest.raises(InputError, match="crf"):
        Output("ffv1", 10)


def test_codecs_and_quality(tmp_path: Path) -> None:
    sizes = {}
    for codec, crf in (("h264", 10), ("h264", 40), ("h265", 40)):
        path = tmp_path / f"{codec}{crf}.mp4"
        with VideoWriter(path, output=Output(codec, crf)) as writer:
            for i, picture in enumerate(PICTURES):
                writer.write(picture, i)
            writer.close()
        sizes[codec, crf] = path.stat().st_size
        with av.open(str(path)) as file:
            assert file.streams.video[0].codec_context.name == {"h264": "h264", "h265": "hevc"}[codec]
        assert len(read(path)[0]) == 12
    assert sizes["h264", 10] > 2 * sizes["h264", 40]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_http(tmp_path: Path, server: str) -> None:
    make(tmp_path / "a.mp4")
    assert len(read(f"{server}/a.mp4")[0]) == 12
    assert run("encode", f"{server}/a.mp4", "-o", tmp_path / "t.safetensors", *CPU).exit_code == 0
    result = run("encode", f"{server}/none.mp4", "-o", tmp_path / "u.safetensors", *CPU)
    assert result.exit_code == 1
    assert "none.mp4 cannot be opened" in result.stderr
    assert run("encode", f"{server}/a.mp4", *CPU).exit_code == 2  # no name for the output


def test_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    class Capture:
        left = 5

        def __init__(self, index: int) -> None:
            assert index == 3

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _: int) -> float:
            return 30.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (self.left >= 0, PICTURES[0][:, :, ::-1])

        def release(self) -> None:
            pass

    result = run("encode", "97", "-o", "t.safetensors", *CPU)
    assert result.exit_code == 1
    assert "no camera 97" in result.stderr
    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    frames = []
    with VideoReader("3") as reader, pytest.raises(VideoError, match="gives no more frames"):
        frames.extend(reader)
    with VideoReader("3") as reader:
        frames = [frame for frame, _ in zip(reader, range(4), strict=False)]
    assert np.array_equal(frames[1].pixels, PICTURES[0])
    assert all(a.pts < b.pts for a, b in itertools.pairwise(frames))
    assert reader.live


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 300}.mp4", "no\0name.mp4"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(VideoError, match="cannot be opened"):
        VideoReader(tmp_path / name)
    with pytest.raises(OutputError, match="cannot be written"), VideoWriter(tmp_path / f"{name}.mp4") as w:
        w.write(PICTURES[0], 0)
    with pytest.raises(OutputError, match="cannot be written"):
        PartFile(tmp_path / name).open()
    if "\0" not in name:
        for command in (
            ["encode", name],
            ["decode", name],
            ["encode", "a.mp4", "-o", name],
            ["info", name],
            ["reconstruct", name],
            ["encode", "a.png", "--bundle", name],
        ):
            result = run(*command, *CPU)
            assert result.exit_code in (1, 2)
            assert isinstance(result.exception, SystemExit)
            assert "Error" in result.stderr or len(result.stderr.splitlines()) == 1


def test_faults_of_the_call(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4")
    clip = tmp_path / "a.mp4"
    for options in (
        ["--start", "x"],
        ["--start", "2", "--end", "1"],
        ["--fps", "x"],
        ["--fit", "x"],
        ["--raw", "12"],
        ["--raw", "12x12:nothing"],
        ["--input-option", "x"],
        ["--size", "0x4"],
    ):
        assert run("encode", clip, *options, *CPU).exit_code == 2, options
    assert run("encode", "-", *CPU).exit_code == 2
    assert run("reconstruct", clip, "--crf", "3", "--codec", "ffv1", *CPU).exit_code == 2
    late = run("encode", clip, "--start", "99", *CPU)
    assert late.exit_code == 1
    assert "no frame in the time" in late.stderr


def test_the_page_has_every_case() -> None:
    page = (Path(__file__).parent.parent / "docs/inputs.md").read_text()
    assert all(f"| {case} |" in page for case in FILES)
