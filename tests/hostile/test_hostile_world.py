"""A world that does not cooperate: other writers, full disks, signals; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.dataset.shards import ShardSample, pack
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.tokens.convert import convert_file
from vidtok_runtime.tokens.writer import TokenWriter


@pytest.mark.parametrize("links", [True, False])
def test_concurrent_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "t"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    parts = [PartFile(target) for _ in contents]  # all begin before any has finished

    def write(part: PartFile, content: bytes) -> str:
        try:
            part.write_whole(content)
        except OutputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(write, parts, contents))
    assert sorted(outcomes) == ["", *[f"{target} exists already; give --force to replace it"] * 7]
    assert target.read_bytes() == contents[outcomes.index("")]
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], capture_output=True).returncode:
        pytest.skip("a small tmpfs needs the right to mount one")
    try:
        data = np.zeros((400, 16, 16), np.int32)
        info = Tokenizer("tiny-fsq-32768", provider="cpu").describe(4 * 400 - 3, 128, 128)
        with pytest.raises(OutputError, match="No space left"):
            Tokens(data, info).save(disk / "t.safetensors")
        Tokens(data, info).save(tmp_path / "t.safetensors")
        for suffix in (".npz", ".tar", ".bin"):
            with pytest.raises(OutputError, match="No space left"):
                convert_file(tmp_path / "t.safetensors", disk / f"t{suffix}")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@contextmanager
def short_files(limit: int) -> Iterator[None]:
    """No file gets longer than this, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of a file")
    before, compiles = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # compiled files would be cut, too, and stay
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiles
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_tar_of_tokens_that_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(bytes(100_000))
    target = tmp_path / "t.tar"
    with short_files(50_000), pytest.raises(OutputError, match=r"t\.tar cannot be written: File too large"):
        pack(target, [ShardSample("0", tmp_path / "tokens", {})])
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]
    pack(target, [ShardSample("0", tmp_path / "tokens", {})])
    assert target.stat().st_size == 112_640  # as tar pads it


def test_variances_that_do_not_fit(tmp_path: Path) -> None:
    tok = Tokenizer("tiny-kl-16chn", provider="cpu")
    latents = np.zeros((40, 16, 8, 8), np.float32)
    target = tmp_path / "t.safetensors"
    with TokenWriter(target, None) as writer, short_files(latents.nbytes * 3 // 2):
        writer.append(latents, latents)
        with pytest.raises(OutputError) as caught:
            writer.close(tok.describe(4 * 40 - 3, 64, 64), np.arange(4 * 40 - 3))
    assert str(caught.value) == f"{target} cannot be written: File too large"


@pytest.mark.parametrize(
    ("number", "ignored"), [(signal.SIGTERM, None), (signal.SIGHUP, None), (signal.SIGTERM, signal.SIGHUP)]
)
def test_signals_to_end(clip: Path, tmp_path: Path, number: signal.Signals, ignored: signal.Signals | None) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    # Frames that never end: the second one is told to wait until the signal.
    script = (
        "import sys, time, vidtok_runtime.pipeline.files as p; chunks = p._chunks\n"
        "def slow(items, size):\n"
        "    for c in chunks(items, 4):\n"
        "        yield c; print('working', flush=True); time.sleep(600)\n"
        "p._chunks = slow\nfrom vidtok_runtime.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "encode", clip, "-o", folder / "t.safetensors", "--quiet", "--provider", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whatever started the tests may have been told to ignore SIGHUP itself.
        preexec_fn=partial(signal.signal, ignored or number, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert [p.suffix for p in folder.iterdir()] == [".part"]
    if ignored:  # as nohup has SIGHUP
        process.send_signal(ignored)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors.splitlines() == [f"vidtok-run: stopped by {number.name}"]
    assert list(folder.iterdir()) == []


def shell(redirected: str, *args: object) -> subprocess.CompletedProcess[str]:
    """The command line under a shell's redirections, with stdout as strict as a UTF-8 locale has it."""
    command = [sys.executable, "-m", "vidtok_runtime.cli", *map(str, args)]
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *command],
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="surrogateescape",
    )


def test_closed_descriptors(clip: Path, tmp_path: Path) -> None:
    options = ("--provider", "cpu", "--threads", 1)
    assert shell("", "encode", clip, "-o", tmp_path / "t.safetensors", *options).returncode == 0
    for i, closed in enumerate(("2>&-", "0<&- 1>&- 2>&-", "1>&- 2>&-")):
        out = tmp_path / f"{i}.safetensors"
        done = shell(closed, "encode", clip, "-o", out, *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert out.read_bytes() == (tmp_path / "t.safetensors").read_bytes()
    for lost, why in ((">&-", "Bad file descriptor"), ("> /dev/full", "No space left on device")):
        done = shell(lost, "decode", tmp_path / "t.safetensors", "-o", "-", "--quiet", *options)
        assert done.returncode == 1
        assert done.stderr.startswith("vidtok-run: error: ")
        assert why in done.stderr
        assert done.stderr.count("\n") == 1
    done = shell("> /dev/full", "info", tmp_path / "t.safetensors")
    assert (done.returncode, done.stderr) == (1, "vidtok-run: error: [Errno 28] No space left on device\n")
    done = shell("| head -c 10", "reconstruct", clip, "-o", "-", "--quiet", *options)
    assert "Traceback" not in done.stderr
    done = shell("2>&1 | true", "encode", clip, "-o", tmp_path / "u.safetensors", *options)
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.part"))


def test_names_that_are_no_utf8(clip: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    named.write_bytes(clip.read_bytes())
    done = shell("", "encode", named, "--quiet", "--provider", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    done = shell("", "encode", named, "--force", "--provider", "cpu")
    assert done.stdout.startswith(str(named.with_suffix(".safetensors")))
