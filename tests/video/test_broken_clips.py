"""Damage in the middle is counted and said; a missing end is an error."""

from __future__ import annotations

import errno
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from video_files import CPU, damaged, read, round_trip

from vidtok_runtime import remote
from vidtok_runtime.errors import VideoError
from vidtok_runtime.remote import RemotePath
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection


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


def failing(monkeypatch: pytest.MonkeyPatch, number: int, lasting: bool) -> list[int]:
    """Let the request to a store of this number fail, and all behind it; they are counted in what is returned."""
    asked = [0]
    readinto = remote._Remote.readinto

    def ask(self: Any, buffer: Any) -> int:
        asked[0] += 1
        if asked[0] == number or (lasting and asked[0] > number):
            raise OSError(errno.EIO, "no answer today")
        return readinto(self, buffer)

    monkeypatch.setattr(remote._Remote, "readinto", ask)
    return asked


@pytest.mark.parametrize("start", [None, Fraction(1)])
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_an_error_of_a_store_costs_no_frames_and_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    suffix: str,
    lasting: bool,
    start: Fraction | None,
) -> None:
    path = damaged(tmp_path / f"a{suffix}", "nothing")
    place = RemotePath(f"file://{path}", 0, path.stat().st_size)
    wanted = read(path, Selection(start=start))[0]
    said = []
    for number in itertools.count(1):
        with monkeypatch.context() as patch:
            asked = failing(patch, number, lasting)
            try:
                with VideoReader(place, Selection(start=start)) as reader:
                    found = [frame.pixels for frame in reader]
            except VideoError as error:
                said.append(str(error))
            else:
                assert np.array_equal(found, wanted)
        if asked[0] < number:
            break
    assert len(said) >= 3
    assert all(line.endswith(": no answer today") for line in said)
    assert capfd.readouterr().err == ""
