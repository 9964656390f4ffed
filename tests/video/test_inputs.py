"""Files as people have them: what comes in, and what comes back of geometry and time."""

from __future__ import annotations

import functools
import http.server
import itertools
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import run
from video_files import CPU, FILES, PICTURES, difference, make, read, round_trip

from vidtok_runtime.errors import OutputError, VideoError
from vidtok_runtime.files import PartFile
from vidtok_runtime.tokens.tokens import TokenReader
from vidtok_runtime.video.reader import VideoReader
from vidtok_runtime.video.selection import Selection
from vidtok_runtime.video.writer import VideoWriter


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
        cv2.imwrite(str(folder / f"1²{i}.png"), picture[:, :, ::-1])  # 1²10 comes after 1²9
    (folder / "notes.txt").write_text("not an image")
    found, times, _ = read(folder, Selection(fps=Fraction(10)))
    assert all(np.array_equal(a, b) for a, b in zip(found, PICTURES, strict=True))
    assert times == pytest.approx([i / 10 for i in range(12)])
    found, times, _ = read(folder, Selection(start=Fraction(1, 2), fps=Fraction(10)))
    assert np.array_equal(found[0], PICTURES[5])
    assert len(found) == 7
    assert run("encode", folder, *CPU).exit_code == 0
    assert TokenReader(tmp_path / "frames.safetensors").info.num_frames == 12
    cv2.imwrite(str(folder / "1²99.png"), PICTURES[0][:20])
    with pytest.raises(VideoError, match="changes its frame size"):
        read(folder)
    assert read(folder, Selection(size="32x32"))[0][-1].shape == (32, 32, 3)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(VideoError, match="holds no images"):
        read(empty)


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


def test_what_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    path = tmp_path / "gone/a.mp4"
    with VideoWriter(path) as writer:
        path.parent.rmdir()
        with pytest.raises(OutputError) as caught:
            writer.write(PICTURES[0], 0)
    assert str(caught.value) == f"{path} cannot be written: No such file or directory"


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
    page = (Path(__file__).parents[2] / "docs/inputs.md").read_text()
    assert all(f"| {case} |" in page for case in FILES)
