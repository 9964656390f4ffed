"""What the C++ program refuses: bad clips, altered bundles, damaged text, calls that make no sense."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from cpp_program import (
    FSQ,
    HEIGHT,
    KL,
    WIDTH,
    Build,
    encode,
    environment,
    leftovers,
    y4m,
)
from strange_bundles import endless_bundle, listing_bundle, lying_bundle

from vidtok_runtime.bundle.manifest import read_manifest

pytest_plugins = ["cpp_builds"]


def test_bad_input_is_one_line(either: Build, raw: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    tokens = encode(either, raw, tmp_path / "clip.safetensors")
    before = tokens.read_bytes()
    out = tmp_path / "out.safetensors"
    size = ("--size", f"{WIDTH}x{HEIGHT}")
    clip = y4m(tmp_path / "clip.y4m", pixels, "yuv444p")
    cut = tmp_path / "cut.y4m"
    cut.write_bytes(clip.read_bytes()[:-100])
    assert "middle of frame 20" in either.run("encode", FSQ, cut, out, code=1)
    short = tmp_path / "short.rgb"
    short.write_bytes(raw.read_bytes()[:-1])
    assert "middle of frame 20" in either.run("encode", FSQ, short, out, *size, code=1)
    deep = y4m(tmp_path / "deep.y4m", pixels, "yuv422p")
    assert "C422" in either.run("encode", FSQ, deep, out, code=1)
    empty = tmp_path / "empty.rgb"
    empty.touch()
    assert "no frames" in either.run("encode", FSQ, empty, out, *size, code=1)
    assert "--size" in either.run("encode", FSQ, raw, out, code=1)
    assert "no file" in either.run("encode", FSQ, tmp_path / "absent.y4m", out, code=1)
    assert "manifest.json" in either.run("encode", tmp_path / "absent", raw, out, *size, code=1)
    assert "exists already" in either.run("encode", FSQ, raw, tokens, *size, code=1)
    assert "does not exist" in either.run("encode", FSQ, raw, tmp_path / "no/where.safetensors", *size, code=1)
    assert "fsq-32768" in either.run("decode", KL, tokens, tmp_path / "out.rgb", code=1)
    assert ".y4m, .rgb or .f32" in either.run("decode", FSQ, tokens, tmp_path / "out.mp4", code=1)
    assert tokens.read_bytes() == before
    assert not out.exists()
    assert not leftovers(tmp_path)


def test_only_regular_files_are_replaced(plain: Build, raw: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "link.safetensors").symlink_to(raw)
    before = raw.read_bytes()
    for name, what in (("pipe", "a device, pipe or socket"), ("link", "a link")):
        out = tmp_path / f"{name}.safetensors"
        said = plain.run("encode", FSQ, raw, out, "--size", f"{WIDTH}x{HEIGHT}", "--force", code=1)
        assert f"{out} is {what}, and only regular files are replaced" in said
    assert "no file" in plain.run("decode", FSQ, tmp_path / "pipe.safetensors", tmp_path / "x.rgb", code=1)
    assert "no file" in plain.run("encode", FSQ, tmp_path / "pipe.safetensors", tmp_path / "x", code=1)
    assert stat.S_ISFIFO((tmp_path / "pipe.safetensors").lstat().st_mode)
    assert (tmp_path / "link.safetensors").is_symlink()
    assert raw.read_bytes() == before
    assert not leftovers(tmp_path)


def test_altered_bundles_are_refused(either: Build, raw: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(FSQ, bundle)
    call = ("encode", bundle, raw, tmp_path / "out.safetensors", "--size", f"{WIDTH}x{HEIGHT}")
    graph, manifest = bundle / "encoder.local.onnx", bundle / "manifest.json"
    sound, text = graph.read_bytes(), manifest.read_text()
    graph.write_bytes(sound[:1000] + bytes([sound[1000] ^ 1]) + sound[1001:])
    assert "altered" in either.run(*call, code=1)
    graph.write_bytes(b"garbage")
    manifest.write_text(text.replace(hashlib.sha256(sound).hexdigest(), hashlib.sha256(b"garbage").hexdigest()))
    assert "cannot be used" in either.run(*call, code=1)
    graph.write_bytes(sound)
    for before, after in (
        ('"N 8 2 H W"', '"N 9 2 H W"'),
        ('"float32"', '"float16"'),
        ("state.0.conv_in", "state.0.conv_out"),
        ('"axes": "N 3 T H W"', '"axes": "N T/4 H W"'),
        ('"initial": "zeros"', '"initial": "ones"'),
        ('"max": 16', '"max": 17'),
        ('"encoder.local.onnx"', '"../encoder.local.onnx"'),
        ('"format_version": 2', '"format_version": 3'),
    ):
        assert before in text
        manifest.write_text(text.replace(before, after))
        either.run(*call, code=1)
    graph.unlink()
    manifest.write_text(text)
    assert "encoder.local.onnx is missing" in either.run(*call, code=1)
    assert not (tmp_path / "out.safetensors").exists()


def test_token_files_that_no_reader_would_take_are_not_written(either: Build, tmp_path: Path) -> None:
    done = subprocess.run([either.folder / "vidtok_tests", "writer", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sound"]


def test_outputs_of_other_sizes(build: Build, raw: Path, tmp_path: Path) -> None:
    state = read_manifest(FSQ).graphs[0].states[2].output
    for output, axis in (("indices", 1), ("indices", 3), ("latent", 3), (state, 0), (state, 3)):
        bundle = lying_bundle(tmp_path / f"{output}-{axis}", output, axis)
        words = ("encode", bundle, raw, tmp_path / "x.safetensors", "--size", f"{WIDTH}x{HEIGHT}")
        assert output in build.run(*words, code=1)
    assert not leftovers(tmp_path)


def test_outputs_that_are_no_tensor(build: Build, raw: Path, tmp_path: Path) -> None:
    bundle = listing_bundle(tmp_path / "bundle")
    said = build.run("encode", bundle, raw, tmp_path / "x.safetensors", "--size", f"{WIDTH}x{HEIGHT}", code=1)
    assert "latent is float32" in said or build.provider != "cpu"
    assert not leftovers(tmp_path)


def test_streams_that_are_refused_something_or_fail(build: Build) -> None:
    done = subprocess.run(
        [build.folder / "vidtok_tests", "streams", FSQ, build.provider],
        env=environment(TBB_ENABLE_SANITIZERS="1"),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stdout) == (0, "0 are otherwise\n"), done.stdout + done.stderr


def test_long_text_is_cut_between_characters(either: Build, raw: Path, tmp_path: Path) -> None:
    bundle, tokens = tmp_path / "bundle", encode(either, raw, tmp_path / "clip.safetensors")
    shutil.copytree(FSQ, bundle)
    manifest, sound = bundle / "manifest.json", tokens.read_bytes()
    text, long = manifest.read_text(), "aa" + "漢" * 70
    for before, after, shown in (
        ('"part": "local"', f'"part": "{long}"', 58),
        ('"family"', f'"{long}": 1, "{long}": 2, "family"', 38),
    ):
        assert before in text
        manifest.write_text(text.replace(before, after, 1))
        assert f"'aa{'漢' * shown}'" in either.run("info", bundle, code=1)
    room = 8 + int.from_bytes(sound[:8], "little")
    header = sound[8:room].replace(b'"num_frames":"21"', f'"num_frames":"{long}"'.encode())
    tokens.write_bytes(len(header).to_bytes(8, "little") + header + sound[room:])
    assert f"'aa{'漢' * 38}'" in either.run("info", tokens, code=1)


def test_weights_outside_the_graph_are_refused(either: Build, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(FSQ, bundle)
    graph, manifest = bundle / "encoder.local.onnx", bundle / "manifest.json"
    sound = hashlib.sha256(graph.read_bytes()).hexdigest()
    # A model (field 7) whose graph (5) has a tensor (14) that lies elsewhere.
    graph.write_bytes(bytes([7 << 3 | 2, 4, 5 << 3 | 2, 2, 14 << 3, 1]))
    manifest.write_text(manifest.read_text().replace(sound, hashlib.sha256(graph.read_bytes()).hexdigest()))
    assert "in other files" in either.run("info", bundle, "--verify", code=1)


def test_damaged_text_never_crashes(either: Build, raw: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    bundle, tokens = tmp_path / "bundle", tmp_path / "clip.safetensors"
    shutil.copytree(FSQ, bundle)
    encode(either, raw, tokens)

    def damage(content: bytes, reach: int) -> bytes:
        kind, at = chance.randrange(4), chance.randrange(reach)
        end = at + chance.randrange(1, 40)
        middle = [bytes([chance.randrange(256)]), b"", content[at:end] * 2, b"9" * 30][kind]
        return content[:at] + middle + content[end if kind else at + 1 :]

    for file, target, reach in ((bundle / "manifest.json", bundle, 11000), (tokens, tokens, 1100)):
        sound = file.read_bytes()
        for content in [b"", b"{", b"[" * 5000, sound[: len(sound) // 2], *(damage(sound, reach) for _ in range(30))]:
            file.write_bytes(content)
            done = subprocess.run(
                [either.folder / "vidtok", "info", target, "--verify"],
                capture_output=True,
                text=True,
                errors="replace",
            )
            assert done.returncode in (0, 1), done.stderr
            assert done.returncode == 0 or re.fullmatch(r"vidtok: [^\n]+\n", done.stderr), done.stderr


def test_calls_that_make_no_sense(plain: Build) -> None:
    for call in (
        ["encode"],
        ["fly"],
        ["info", "a", "--wings"],
        ["info"],
        ["info", "a", "--threads"],
        ["info", "a", "--chunk", "-1"],
    ):
        assert "vidtok: " in plain.run(*call, code=2)
    assert "Example: " in plain.run("--help")
    done = subprocess.run([plain.folder / "vidtok"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
def test_an_engine_that_never_returns(plain: Build, raw: Path, tmp_path: Path) -> None:
    bundle = endless_bundle(tmp_path / "bundle")
    out = tmp_path / "out"
    out.mkdir()
    words = ["encode", bundle, raw, out / "x.safetensors", "--size", f"{WIDTH}x{HEIGHT}"]
    said = plain.run(*words, "--time-limit", "4.5", code=1)
    assert said == "vidtok: it took longer than --time-limit and was ended\n"
    assert list(out.iterdir()) == []
    for limit in ("0", "-1", "nan", "x", "", "1e3"):
        assert "--time-limit takes seconds" in plain.run(*words, "--time-limit", limit, code=2)
    process = subprocess.Popen([plain.folder / "vidtok", *map(str, words)], stderr=subprocess.PIPE, text=True)
    while not leftovers(out):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert process.poll() is None  # the first one waits for the call
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + signal.SIGTERM, "vidtok: ended by a second signal\n")
    assert list(out.iterdir()) == []


def test_interrupt_leaves_nothing(plain: Build, tmp_path: Path) -> None:
    raw = tmp_path / "long.rgb"
    with raw.open("wb") as file:
        file.truncate(256 * 256 * 3 * 100_000)  # sparse
    words = ["encode", FSQ, raw, tmp_path / "out.safetensors", "--size", "256x256", "--threads", "1"]
    process = subprocess.Popen([plain.folder / "vidtok", *map(str, words)], stderr=subprocess.PIPE, text=True)
    while not leftovers(tmp_path):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, line = process.communicate(timeout=120)
    assert (process.returncode, line) == (1, "vidtok: interrupted; nothing was written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["long.rgb"]
