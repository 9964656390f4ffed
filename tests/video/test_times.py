"""Times of frames: parts of clips against the whole, and timestamps that are doubled, run backwards or jump."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from commands import run
from video_files import CPU, make, number_of, numbered, read

from vidtok_ref.train.clips import FileClip
from vidtok_runtime.errors import VideoError
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.source import Damage, Opening
from vidtok_runtime.video.timestamps import Timestamps

FRAMES = 30
COUNTED = Opening(Damage.COUNTED)
X264: dict[str, dict[str, str]] = {
    "one key frame": {"g": "250", "bf": "0"},
    "one key frame, B-frames": {"g": "250", "bf": "3", "b_strategy": "0"},
    "two key frames": {"g": "17", "bf": "2", "b_strategy": "0"},
    "many key frames": {"g": "5", "bf": "0"},
    "open groups": {"g": "8", "bf": "3", "b_strategy": "0", "x264-params": "open-gop=1:scenecut=0"},
}
CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{suffix}, {kind}": (suffix, {"options": {"sc_threshold": "0", **options}})
    for suffix in ("mp4", "mkv", "flv", "ts", "avi")
    for kind, options in X264.items()
}
CLIPS |= {
    f"webm, key frame every {g}": ("webm", {"codec": "libvpx-vp9", "options": {"g": str(g), "cpu-used": "8"}})
    for g in (250, 16, 6)
}
CLIPS |= {
    f"{suffix}, MPEG-4, key frame every {g}": (suffix, {"codec": "mpeg4", "options": {"g": str(g), "bf": bf}})
    for suffix, g, bf in (("avi", 250, "0"), ("avi", 7, "2"), ("mp4", 7, "2"))
}
CLIPS["avi, MPEG-2"] = ("avi", {"codec": "mpeg2video", "options": {"g": "9", "bf": "2"}})
CLIPS["mp4, H.265, open groups"] = (
    "mp4",
    {"codec": "libx265", "options": {"x265-params": "log-level=0:keyint=9:min-keyint=9:open-gop=1:bframes=3"}},
)
CLIPS["ts, MPEG-2, open groups"] = ("ts", {"codec": "mpeg2video", "options": {"g": "9", "bf": "2"}})
CLIPS["gif"] = ("gif", {"codec": "gif", "pixels": "rgb8", "base": Fraction(1, 25)})


@pytest.mark.parametrize("case", CLIPS)
def test_every_start_gives_what_the_whole_has_there(case: str, tmp_path: Path) -> None:
    suffix, values = CLIPS[case]
    path = make(tmp_path / f"a.{suffix}", [numbered(i) for i in range(FRAMES)], **values)
    pictures, times, reader = read(path)
    assert [number_of(picture) for picture in pictures] == list(range(FRAMES))
    tick, begin = reader.time_base, Fraction(times[0]).limit_denominator(10**6)
    assert times == pytest.approx([times[0] + i / 25 for i in range(FRAMES)], abs=float(tick) / 2)
    for first in range(FRAMES):
        start = max(Fraction(0), Fraction(first, 25) - min(tick, Fraction(1, 500)))  # times are rounded to ticks
        end = Fraction(first + 3, 25)
        part, found, _ = read(path, Selection(start=start, end=end))
        wanted = [i for i, time in enumerate(times) if start <= Fraction(time).limit_denominator(10**6) - begin < end]
        assert [number_of(picture) for picture in part] == wanted
        assert np.array_equal(part[0], pictures[wanted[0]])
        assert found == pytest.approx([times[i] - times[0] - float(start) for i in wanted], abs=float(tick))


def stamped(path: Path, times: list[int], codec: str = "mjpeg", g: int = 1) -> Path:
    """A clip whose pictures, numbered, have these times, in units of 40 ms."""
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {} if codec == "mjpeg" else {"g": str(g), "bf": "0"}
        packets = []
        for i in range(len(times)):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for i, packet in enumerate(packets):
            # Matroska stores times of presentation alone.
            packet.pts, packet.dts, packet.time_base = times[i] + 100, i, Fraction(1, 25)
            file.mux(packet)
    return path


REPAIRED: dict[str, tuple[list[int], list[float]]] = {
    "doubled in the middle": ([0, 1, 2, 3, 3, 4, 5, 6], [0, 1, 2, 3, 3.5, 4, 5, 6]),
    "doubled for another": ([0, 1, 2, 3, 3, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
    "doubled first": ([0, 0, 1, 2, 3], [0, 0.5, 1, 2, 3]),
    "doubled last": ([0, 1, 2, 2], [0, 1, 2, 3]),
    "back once in the middle": ([0, 1, 2, 3, 1, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
    "back once at the start": ([1, 0, 2, 3, 4], [1, 1.5, 2, 3, 4]),
    "back once at the end": ([0, 1, 2, 0], [0, 1, 2, 3]),
    "far back once": ([50, 51, 52, 3, 54, 55], [50, 51, 52, 53, 54, 55]),
    "back by two, for good": ([0, 1, 2, 3, 2, 3, 4, 5, 6], [0, 1, 2, 3, 3.125, 3.55, 4, 5, 6]),
    "far ahead once": ([0, 1, 900, 3, 4], [0, 1, 2, 3, 4]),
    "far back for good": ([90, 91, 0, 1, 2], [90, 91, 92, 93, 94]),
    "a long look": ([0, 1, 900, 901, 902], [0, 1, 900, 901, 902]),
}


@pytest.mark.parametrize("case", REPAIRED)
def test_times_that_do_not_rise(case: str, tmp_path: Path) -> None:
    """One bad time costs no other; only where times start anew they are moved, which is said."""
    times, wanted = REPAIRED[case]
    found, seconds, reader = read(stamped(tmp_path / "a.mkv", times))
    assert [number_of(picture) for picture in found] == list(range(len(times)))
    assert [round(25 * (s - seconds[0]), 3) + wanted[0] for s in seconds] == pytest.approx(wanted, abs=0.03)
    assert any("times jump" in note for note in reader.notes()) == (case == "far back for good")


@pytest.mark.parametrize("bad", [0, 1, 9, 10, 11, 28, 29])
@pytest.mark.parametrize("back", [0, 3])
def test_every_start_of_a_clip_with_one_bad_time(tmp_path: Path, bad: int, back: int) -> None:
    times = list(range(FRAMES))
    times[bad] = max(0, bad - 1 - back)
    path = stamped(tmp_path / "a.mkv", times, "mpeg4", g=10)
    pictures, seconds, _ = read(path)
    after = [i for i in range(FRAMES) if i != bad]
    assert [25 * (seconds[i] - seconds[0]) for i in after] == pytest.approx(
        [times[i] - times[0] for i in after], abs=0.03
    )
    for first in range(1, FRAMES):
        start = Fraction(first, 25)
        part, _, _ = read(path, Selection(start=start))
        wanted = [
            number_of(p) for p, s in zip(pictures, seconds, strict=True) if s - seconds[0] >= start - Fraction(1, 10**6)
        ]
        assert [number_of(picture) for picture in part] == wanted


def test_missing_times_follow() -> None:
    clock = Timestamps(Fraction(1, 25), 1, breaks=False)
    assert [t for _, t in clock.rising([("a", None), ("b", None), ("c", 5), ("d", None), ("e", 9)])] == [0, 1, 5, 6, 9]


def joined(path: Path, *begins: int) -> Path:
    """Pieces of 25 numbered pictures in one MPEG-TS, each from its own second on."""
    content = b""
    for number, begin in enumerate(begins):
        piece = make(
            path.with_name(f"piece{number}.ts"),
            [numbered(25 * number + i) for i in range(25)],
            times=[25 * begin + i for i in range(25)],
            options={"g": "10", "bf": "0"},
            container={"options": {"mpegts_copyts": "1"}},
        )
        content += piece.read_bytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("begins", [(0, 3600), (3600, 0), (10, 90000), (0, 1800, 20)])
def test_a_jump_is_not_filled(tmp_path: Path, begins: tuple[int, ...]) -> None:
    path, out = joined(tmp_path / "a.ts", *begins), tmp_path / "t.safetensors"
    for options in ([], ["--fps", "25"]):
        result = run("encode", path, "-o", out, "--force", *options, *CPU)
        assert result.exit_code == 0, result.output
        assert TokenReader(out).info.num_frames == 25 * len(begins)
        seconds = sum(abs(then - before - 0.96) for before, then in itertools.pairwise(begins))
        assert f"times jump ({len(begins) - 1} times, by {seconds:.1f} seconds in all)" in result.stderr
    for first in (5, 20, 25, 30, 45):
        part, times, _ = read(path, Selection(start=Fraction(first, 25), end=Fraction(first + 3, 25)), COUNTED)
        assert [number_of(picture) for picture in part] == list(range(first, first + 3))
        assert times == pytest.approx([0, 0.04, 0.08], abs=0.001)


def test_a_start_in_joined_ogg(tmp_path: Path) -> None:
    """Behind a seek FFmpeg gives the rest of one piece, as if it were all."""
    path = tmp_path / "a.ogg"
    content = b""
    for number in range(2):
        piece = tmp_path / f"piece{number}.ogg"
        make(
            piece, [numbered(30 * number + i) for i in range(30)], codec="libvpx", options={"g": "10", "cpu-used": "8"}
        )
        content += piece.read_bytes()
    path.write_bytes(content)
    assert [number_of(picture) for picture in read(path, None, COUNTED)[0]] == list(range(60))
    for first in (5, 15, 40):
        part, _, reader = read(path, Selection(start=Fraction(first, 25)), COUNTED)
        assert [number_of(picture) for picture in part] == list(range(first, 60))
        assert any("times jump (1 times" in note for note in reader.notes())


def test_a_start_between_two_ticks(tmp_path: Path) -> None:
    """Of a time base as coarse as the frames: every time is there once."""
    path = make(tmp_path / "a.avi", [numbered(i) for i in range(25)], codec="mpeg4")
    for half in (11, 13, 25):
        pictures, times, reader = read(path, Selection(start=Fraction(half, 50)))
        assert reader.time_base == Fraction(1, 25)
        assert [number_of(picture) for picture in pictures] == list(range((half + 1) // 2, 25))
        assert times == pytest.approx([i / 25 for i in range(len(times))])
    result = run("encode", path, "--start", "0.5", *CPU)
    assert result.exit_code == 0, result.output


def test_a_rate_with_many_digits(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", [numbered(i) for i in range(12)])
    out = tmp_path / "t.safetensors"
    for text, rate in (("29.97002997", "30000/1001"), ("23.976023976", "24000/1001")):
        result = run("encode", path, "-o", out, "--fps", text, "--force", *CPU)
        assert result.exit_code == 0, result.output
        assert TokenReader(out).info.fps == Fraction(rate)
    assert read(path, Selection(fps=Fraction(29.97002997)))[2].fps == Fraction(30000, 1001)


def test_a_long_number_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run("encode", "20241105123456", "-o", tmp_path / "t.safetensors", *CPU)
    assert result.exit_code == 1
    assert result.stderr.startswith("vidtok-run: error: 20241105123456 cannot be opened")


def test_a_picture_is_not_repeated_for_ever(tmp_path: Path) -> None:
    """Where a format says that a picture lasts for an hour, it does; copies of it are nobody's wish."""
    path = make(tmp_path / "a.mp4", [numbered(i) for i in range(4)], times=[0, 1, 90001, 90002])
    assert len(read(path)[0]) == 4
    result = run("encode", path, "--fps", "25", *CPU)
    assert result.exit_code == 1
    assert "a picture that lasts 3600 seconds" in result.stderr
    assert not (tmp_path / "a.safetensors").exists()
    assert len(read(path, Selection(fps=Fraction(25), end=Fraction(1)))[0]) == 25
    slow = make(tmp_path / "b.mp4", [numbered(i) for i in range(3)], times=[0, 100, 101])
    assert len(read(slow, Selection(fps=Fraction(25)))[0]) == 102


def test_training_reads_by_the_same_rule(tmp_path: Path) -> None:
    for name, kind in (("a.mp4", "one key frame, B-frames"), ("b.mkv", "open groups")):
        path = make(tmp_path / name, [numbered(i) for i in range(FRAMES)], options=X264[kind])
        clip = FileClip(path, 64)
        assert len(clip.times) == FRAMES
        for first in range(FRAMES):
            index = np.minimum(np.array([first, first + 1, first + 3]), FRAMES - 1)
            assert [number_of(picture) for picture in clip.take(index)] == index.tolist()
    doubled = FileClip(stamped(tmp_path / "c.mkv", [0, 1, 2, 3, 3, *range(5, 20)]), 64)
    assert [number_of(picture) for picture in doubled.take(np.array([3, 4, 5, 12]))] == [3, 4, 5, 12]
    with pytest.raises(VideoError):
        FileClip(tmp_path / "none.mp4", 64)
