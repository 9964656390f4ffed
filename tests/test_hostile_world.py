"""A world that does not cooperate: other writers, full disks, signals; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vidtok_runtime import Tokenizer, Tokens
from vidtok_runtime.errors import OutputError
from vidtok_runtime.files import PartFile
from vidtok_runtime.token_convert import convert_file


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


def test_sigterm(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    # Frames that never end: the second one is told to wait until the signal.
    script = (
        "import sys, time, vidtok_runtime.pipeline as p; chunks = p._chunks\n"
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
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert [p.suffix for p in folder.iterdir()] == [".part"]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.splitlines() == ["vidtok-run: stopped by SIGTERM"]
    assert list(folder.iterdir()) == []
