"""Sound, pipes, codecs: what goes out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from commands import run
from video_files import CPU, PICTURES, make, read

from vidtok_runtime.errors import InputError
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.tools.demo import synthetic_frame
from vidtok_runtime.video.writer import Output, VideoWriter


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


@pytest.mark.parametrize("stream", ["y4m", "rawvideo"])
def test_no_sound_among_the_pixels(tmp_path: Path, stream: str) -> None:
    clip = make(tmp_path / "a.mp4", sound="aac")
    command = [sys.executable, "-m", "vidtok_runtime.cli", "reconstruct", str(clip), "-o", "-", "--stdout", stream]
    done = subprocess.run([*command, *CPU], capture_output=True, check=True)
    header, frame = (100, 6) if stream == "y4m" else (0, 0)
    size = len(PICTURES) * (frame + 48 * 64 * 3 // (2 if stream == "y4m" else 1))
    assert size <= len(done.stdout) <= size + header
    assert b"sound of the codec aac is left out" in done.stderr


@pytest.mark.parametrize("begins", [(0, 3600), (0, 0), (5, 0)])
def test_sound_behind_a_jump_of_times_is_left_out(tmp_path: Path, begins: tuple[int, int]) -> None:
    content = b""
    for number, begin in enumerate(begins):
        piece = make(
            tmp_path / f"{number}.ts",
            [PICTURES[0]] * 60,
            times=[25 * begin + i for i in range(60)],
            sound="aac",
            sound_begins=begin,
            options={"bf": "0"},
            container={"options": {"mpegts_copyts": "1"}},
        )
        content += piece.read_bytes()
    (tmp_path / "a.ts").write_bytes(content)
    result = run("reconstruct", tmp_path / "a.ts", "-o", tmp_path / "r.mkv", *CPU)
    assert result.exit_code == 0, result.output
    assert re.search(rf"left out from {begins[0] + 2}\.\d\d s on, where the times of the clip jump", result.stderr)
    assert len(read(tmp_path / "r.mkv")[0]) == 120
    times = [time for time, _ in sounds(tmp_path / "r.mkv")]
    assert len(times) > 100
    assert max(times) < begins[0] + 2.6


def test_sound_of_a_clip_in_a_store(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", sound="aac")
    RemotePath("memory://sound/a.mp4").write_bytes(path.read_bytes())
    for number, place in enumerate(("memory://sound/a.mp4", f"file://{path}")):
        out = tmp_path / f"{number}.mp4"
        result = run("reconstruct", place, "-o", out, *CPU)
        assert result.exit_code == 0, result.output
        assert [content for _, content in sounds(out)] == [content for _, content in sounds(path)]


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
        [*command, "decode", tokens, "-o", "-", "--stdout", stream, *CPU[:-1]], capture_output=True, check=True
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
