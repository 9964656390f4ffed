"""Devices, pipes, sockets and links: never replaced, and never waited for where a file is expected."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run
from video_files import lossless

from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.engines import compiled_cache
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.tools.demo import synthetic_frame

PICTURES = [synthetic_frame(3 * i, 16, 24) for i in range(5)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with one of each kind, and a regular file that a link leads to."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    (folder / "regular").write_text("mine")
    (folder / "link").symlink_to("regular")
    (folder / "nowhere").symlink_to("absent")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        before = Path.cwd()
        os.chdir(folder)  # the name of a socket is short
        made.bind("socket")
        os.chdir(before)
    if os.geteuid() == 0:
        os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))  # as /dev/null
        (folder / "linked-device").symlink_to("device")
    return folder


def kinds(folder: Path) -> dict[str, int]:
    return {p.name: stat.S_IFMT(p.lstat().st_mode) for p in folder.iterdir()}


def test_only_regular_files_are_replaced(place: Path) -> None:
    before = kinds(place)
    for name in before.keys() - {"regular"}:
        with pytest.raises(OutputError, match="only regular files are replaced"):
            PartFile(place / name, force=True).write_whole(b"new")
        with pytest.raises(OutputError, match="exists already"):
            PartFile(place / name).write_whole(b"new")
    assert kinds(place) == before
    assert (place / "regular").read_text() == "mine"
    PartFile(place / "regular", force=True).write_whole(b"new")
    assert (place / "regular").read_text() == "new"
    with pytest.raises(OutputError, match="is a folder"):
        PartFile(place, force=True)


def test_commands_leave_them_alone(place: Path, tmp_path: Path) -> None:
    clip = lossless(tmp_path / "clip.mkv", PICTURES)
    before = kinds(place)
    for name in before.keys() - {"regular"}:
        target = place / f"{name}.safetensors"
        (place / name).rename(target)
        result = run("encode", clip, "-o", target, "--force", "--provider", "cpu", "--threads", 1)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].endswith("only regular files are replaced; name another output")
        target.rename(place / name)
    assert kinds(place) == before


def patient(*args: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which must not wait for ever."""
    command = [sys.executable, "-m", "vidtok_runtime.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    "words",
    [
        ("info", "pipe.safetensors"),
        ("decode", "pipe.safetensors", "-o", "x.mp4"),
        ("convert", "pipe.tar", "-o", "x.safetensors"),
        ("dataset", "pipe.csv", "out"),
        ("dataset", "pipe.txt", "out"),
        ("dataset", "pipe.tar", "out"),
        ("dataset", "list.txt", "out", "--provider", "cpu", "--workers", "1"),
        ("eval", "clips", "--provider", "cpu", "--lpips", "pipe.onnx"),
        ("eval", "clips", "--provider", "cpu", "--pca", "pipe.npz"),
        ("encode", "clips/clip.mkv", "--bundle", "pipe-manifest", "-o", "x.safetensors"),
        ("encode", "clips/clip.mkv", "--bundle", "pipe-graph", "-o", "x.safetensors"),
    ],
)
def test_no_pipe_is_waited_for(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    lossless(tmp_path / "clips/clip.mkv", PICTURES)
    for suffix in ("safetensors", "tar", "csv", "txt", "onnx", "npz", "mkv"):
        os.mkfifo(f"pipe.{suffix}")
    Path("list.txt").write_text("pipe.mkv\n")
    for name, file in (("pipe-manifest", "manifest.json"), ("pipe-graph", "encoder.local.onnx")):
        shutil.copytree(SHIPPED / "tiny-fsq-32768", name)
        (Path(name) / file).unlink()
        os.mkfifo(Path(name) / file)
    done = patient(*words)
    assert done.returncode in (1, 3), done.stderr  # dataset: 3, clips failed
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("x.*"))


def test_a_named_pipe_is_a_clip_like_stdin(tmp_path: Path) -> None:
    clip = lossless(tmp_path / "clip.mkv", PICTURES)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"cat '{clip}' > '{pipe}'"]) as writer:
        done = patient("encode", pipe, "-o", tmp_path / "t.safetensors", "--provider", "cpu", "--threads", "1")
        assert writer.wait(10) == 0
    assert done.returncode == 0, done.stderr
    assert "5 frames" in done.stdout


def test_the_cache_opens_no_pipe_and_no_device(place: Path) -> None:
    before = kinds(place)
    for name in before.keys() - {"regular", "link"}:
        assert compiled_cache.load(place / name) is None
        compiled_cache.keep(place / name, b"compiled")
    assert kinds(place) == before


def test_openvino_with_pipes_in_its_cache(tmp_path: Path) -> None:
    script = f"""
import os, numpy as np
from vidtok_runtime import Tokenizer
def tokens():
    return Tokenizer("tiny-fsq-32768", provider="openvino", threads=1).encode(np.zeros((5, 16, 16, 3), np.uint8)).data
first = tokens()
for blob in os.listdir({str(tmp_path)!r}):
    os.unlink(os.path.join({str(tmp_path)!r}, blob))
    os.mkfifo(os.path.join({str(tmp_path)!r}, blob))
assert (tokens() == first).all()
"""
    pytest.importorskip("openvino")
    environment = {**os.environ, "VIDTOK_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert [stat.S_ISFIFO(p.lstat().st_mode) for p in tmp_path.iterdir()] == [True, True]
