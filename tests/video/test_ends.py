"""Where clips end: what is missing is an error, what only looks so is not, and the last frame keeps its duration."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from commands import run
from video_files import CPU, PICTURES, make, number_of, numbered, read

from vidtok_ref.train.clips import FileClip, read_image
from vidtok_runtime import Tokenizer
from vidtok_runtime.errors import VideoError
from vidtok_runtime.pipeline.files import decode_file, encode_file, reconstruct_file
from vidtok_runtime.tokens.edit import cut_file, join_files
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Damage, Opening

CLIP = [numbered(i) for i in range(60)]
CODECS = {
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mpeg4", "libmp3lame"),
    "ogg": ("libvpx", "libopus"),
    "wmv": ("wmv2", "libmp3lame"),
}
LOOSE = {"options": {"g": "12", "bf": "0", "qp": "1"}}


@pytest.fixture(scope="module")
def tok() -> Tokenizer:
    return Tokenizer("tiny-fsq-32768", provider="cpu", threads=1)


def edited(path: Path, begin: int, count: int) -> Path:
    """Let the edit list of an MP4 show `count` frames (of 512 ticks of 1/12800 s) from `begin` on."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4
    assert struct.unpack(">II", content[at : at + 8]) == (0, 1)
    (media,) = struct.unpack(">i", content[at + 12 : at + 16])
    content[at + 8 : at + 16] = struct.pack(">Ii", count * 40, media + begin * 512)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2", "b_strategy": "0"}])
@pytest.mark.parametrize(("begin", "count"), [(0, 30), (12, 48), (24, 20)])
def test_samples_that_an_edit_list_hides_are_not_missing(
    tmp_path: Path, options: dict[str, str], begin: int, count: int
) -> None:
    path = edited(make(tmp_path / "a.mp4", CLIP, options={"g": "12", **options}), begin, count)
    found, _, reader = read(path)
    assert [number_of(picture) for picture in found] == list(range(begin, begin + count))
    assert reader.frame_count == count
    assert len(FileClip(path, 64).times) == count


def with_sound(path: Path, codec: str, sound: str, pictures: int, seconds: int, **values: Any) -> Path:
    """Pictures at 25 a second, and sound that goes on behind them."""
    with av.open(str(path), "w", **values) as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        audio: Any = file.add_stream(sound, rate=48000)
        audio.layout = "mono"
        for i in range(pictures):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        for i in range(25 * seconds):
            wave = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format="fltp", layout="mono")
            wave.rate, wave.pts, wave.time_base = 48000, i * 1920, Fraction(1, 48000)
            file.mux(audio.encode(wave))
        file.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("pictures", [1, 50])
@pytest.mark.parametrize(
    "name", ["a.mkv", "a.webm", "a.flv", "a.mp4", "a.avi", "a.ts", "a.ogg", "a.wmv", "fragments.mp4", "live.mkv"]
)
def test_sound_that_is_longer_than_the_pictures(tmp_path: Path, name: str, pictures: int) -> None:
    codec, sound = CODECS.get(name.partition(".")[2], ("libx264", "aac"))
    options = {"fragments.mp4": {"movflags": "frag_keyframe+empty_moov"}, "live.mkv": {"live": "1"}}.get(name, {})
    path = with_sound(tmp_path / name, codec, sound, pictures, 8, options=options)
    found, _, _ = read(path)
    assert [number_of(picture) for picture in found] == list(range(pictures))
    if path.suffix in (".mp4", ".mkv", ".webm", ".avi") and name != "live.mkv":  # which training takes, with a header
        clip = FileClip(path, 64)
        last = len(clip.times) - 1
        assert number_of(clip.take(np.array([last]))[0]) == pictures - 1
        assert last < 2 * pictures


def cut(path: Path, share: float) -> Path:
    os.truncate(path, int(path.stat().st_size * share))
    return path


@pytest.mark.parametrize("share", [0.9, 0.99])
@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize(
    "name", ["a.mkv", "a.webm", "a.flv", "a.avi", "a.ogg", "a.wmv", "start.mp4", "fragments.mp4", "a.gif"]
)
def test_what_is_cut_is_an_error(tmp_path: Path, name: str, sound: bool, share: float) -> None:
    """Also where sound hides it; what is there is taken on demand."""
    suffix = name.partition(".")[2]
    codec, tone = CODECS.get(suffix, ("libx264", "aac"))
    options = {"fragments.mp4": {"movflags": "frag_keyframe+empty_moov"}, "start.mp4": {"movflags": "faststart"}}
    if suffix == "gif":
        path = make(tmp_path / name, PICTURES, codec="gif", pixels="rgb8", base=Fraction(1, 25))
    elif sound:
        path = with_sound(tmp_path / name, codec, tone, 50, 2, options=options.get(name, {}))
    else:
        path = make(tmp_path / name, CLIP, codec=codec, container={"options": options.get(name, {})})
    read(path)
    result = run("encode", cut(path, share), "-o", tmp_path / "t.safetensors", *CPU)
    assert result.exit_code == 1
    assert "truncated" in result.stderr
    assert "--keep-going" in result.stderr
    assert not (tmp_path / "t.safetensors").exists()
    found, _, reader = read(path, None, Opening(Damage.ACCEPTED))
    assert 1 <= len(found) <= 60
    assert any("it is truncated" in note for note in reader.notes())


def test_an_ogg_file_that_ends_between_two_pages(tmp_path: Path) -> None:
    path = make(tmp_path / "a.ogg", CLIP, codec="libvpx")
    path.write_bytes(path.read_bytes().rpartition(b"OggS")[0])
    with pytest.raises(VideoError, match="it ends before the page that is marked as the last"):
        read(path)
    assert len(read(path, None, Opening(Damage.ACCEPTED))[0]) > 30


def test_a_recording_that_was_stopped_has_what_is_there(tmp_path: Path) -> None:
    """WMV is given its size when it is finished."""
    path = make(tmp_path / "a.wmv", CLIP, codec="wmv2")
    content = bytearray(path.read_bytes())
    at = content.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")) + 40
    assert int.from_bytes(content[at : at + 8], "little") == len(content)
    content[at : at + 8] = bytes(8)
    path.write_bytes(content[: len(content) * 3 // 4])
    assert 30 < len(read(path, None, Opening(Damage.COUNTED))[0]) < 60


def test_pictures_that_are_empty_are_not_missing(tmp_path: Path) -> None:
    """AVI counts them, and holds the picture before."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mpeg4", rate=25, options={"bf": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        packets = []
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += stream.encode(frame)
        for i, packet in enumerate([*packets, *stream.encode(None)]):
            if i not in (7, 8, 19):
                packet.pts = packet.dts = i
                packet.time_base = Fraction(1, 25)
                file.mux(packet)
            else:
                empty = av.Packet(0)
                empty.stream, empty.pts, empty.dts, empty.time_base = stream, i, i, Fraction(1, 25)
                file.mux(empty)
    found, times, _ = read(path)
    assert len(found) == 17
    assert [round(25 * time) for time in times] == [i for i in range(20) if i not in (7, 8, 19)]
    assert len(read(path, Selection(fps=Fraction(25)))[0]) == 20


IMAGES = {
    "base.jpg": [],
    "progressive.jpg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "a.png": [],
    "a.bmp": [],
    "a.ppm": [],
    "a.webp": [],
    "plain.tif": [cv2.IMWRITE_TIFF_COMPRESSION, 1],
    "packed.tif": [],
}


@pytest.mark.parametrize("share", [0.4, 0.95])
@pytest.mark.parametrize("name", IMAGES)
def test_cut_pictures(tmp_path: Path, name: str, share: float) -> None:
    folder, out = tmp_path / "frames", tmp_path / "t.safetensors"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}-{name}"), PICTURES[i], IMAGES[name])
    read(folder)
    path = cut(folder / f"1-{name}", share)
    for place in (path, folder):
        result = run("encode", place, "-o", out, *CPU)
        assert result.exit_code == 1
        assert "truncated" in result.stderr
        assert path.name in result.stderr
        assert not out.exists()
    with pytest.raises(VideoError, match="truncated"):
        read_image(path, 48)
    result = run("encode", folder, "-o", out, "--keep-going", *CPU)
    if result.exit_code:
        assert "truncated" in result.stderr  # nothing of it can be decoded
    else:
        assert "in 1 of the images: it is truncated" in result.stderr


def test_what_follows_a_picture_is_not_part_of_it(tmp_path: Path) -> None:
    for name in ("base.jpg", "progressive.jpg", "a.png"):
        path = tmp_path / name
        cv2.imwrite(str(path), PICTURES[0], IMAGES[name])
        path.write_bytes(path.read_bytes() + b"\xff\xd8\xff more")
        assert len(read(path)[0]) == 1


HELD = [(0, 50), (50, 50), (100, 50), (150, 50), (200, 50), (250, 500)]  # hundredths of a second


def held(path: Path, codec: str = "libx264", pixels: str = "yuv420p") -> Path:
    """Six frames at two a second, the last shown for five seconds."""
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=2, options={} if codec == "gif" else {"bf": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 100)
        packets = []
        for i, (time, _) in enumerate(HELD):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = time, Fraction(1, 100)
            packets += stream.encode(frame)
        for packet, (_, duration) in zip([*packets, *stream.encode(None)], HELD, strict=True):
            packet.duration = duration
            file.mux(packet)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif", "a.flv"])
def test_the_last_frame_keeps_its_duration(tmp_path: Path, tok: Tokenizer, name: str) -> None:
    path = held(tmp_path / name, *(("gif", "rgb8") if name == "a.gif" else ()))
    assert len(read(path, Selection(fps=Fraction(10)))[0]) == 75
    assert len(read(path, Selection(fps=Fraction(10), end=Fraction(5)))[0]) == 50
    tokens = tmp_path / "t.safetensors"
    encode_file(tok, path, tokens, quiet=True)
    for suffix in (".mp4", ".mkv"):
        outs = [tmp_path / f"decoded{suffix}", tmp_path / f"again{suffix}"]
        decode_file(tok, tokens, outs[0], quiet=True)
        reconstruct_file(tok, path, outs[1], quiet=True)
        for out in outs:
            with av.open(str(out)) as file:
                assert file.duration / av.time_base == pytest.approx(7.5, abs=0.002)
            with_rate, _, _ = read(out, Selection(fps=Fraction(10)))
            assert len(read(out)[0]) == 6
            assert len(with_rate) == 75


def test_durations_of_parts_and_of_what_is_joined(tmp_path: Path, tok: Tokenizer) -> None:
    whole, part, joined = (tmp_path / f"{name}.safetensors" for name in ("whole", "part", "joined"))
    info = encode_file(tok, held(tmp_path / "a.gif", "gif", "rgb8"), whole, gop=1, quiet=True)
    assert info.last_duration == 500
    assert TokenReader(whole).info.last_duration == 500
    assert cut_file(whole, part, "1f", "3f").last_duration in (None, 50)
    assert cut_file(whole, part, "1f", None, force=True).last_duration == 500
    join_files([whole, part], joined)
    pts = TokenReader(joined).pts()
    assert pts[6] - pts[5] == 500  # the second begins when the first has been shown
    assert TokenReader(joined).info.last_duration == 500
    even = encode_file(tok, make(tmp_path / "b.mp4"), tmp_path / "even.safetensors", quiet=True)
    assert even.last_duration is None
