"""The C++ runtime, built as docs/cpp.md says, plain and (slow) under sanitizers, held to the kit and Python's bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cases import KIT, Case, every_case, read_cases
from commands import run
from cpp_program import (
    BUILD_PLAIN,
    CONFORM,
    FSQ,
    INSTALL,
    KL,
    ROOT,
    USE,
    Build,
    bash,
    encode,
    environment,
    snippets,
    y4m,
)

from vidtok_runtime import Tokenizer
from vidtok_runtime.pipeline.files import encode_file
from vidtok_runtime.tokens.tokens import TokenReader, Tokens, TokenWriter
from vidtok_runtime.video.reader import VideoReader

pytest_plugins = ["cpp_builds"]


def test_every_case_in_every_chunking(build: Build) -> None:
    assert [line.split()[0] for line in build.conform()] == [case.name for case in read_cases()]


@every_case
def test_files_of_the_program(case: Case, either: Build, tmp_path: Path) -> None:
    _, height, width = case.size
    out, video, raw = tmp_path / "clip.safetensors", tmp_path / "clip.f32", tmp_path / "clip.rgb"
    either.run("encode", case.bundle, case.input, out, "--size", f"{width}x{height}", "--fps", case.fps)
    case.check_token_file(out)
    either.run("decode", case.bundle, case.tokens, video)
    case.check_video(np.fromfile(video, "<f4").reshape(*case.size, 3))
    either.run("decode", case.bundle, case.tokens, raw)
    case.check_video(np.fromfile(raw, np.uint8).reshape(*case.size, 3))


@pytest.mark.parametrize("bundle", [FSQ, KL], ids=lambda folder: folder.name)
@pytest.mark.parametrize("gop", [None, 2])
def test_token_files_have_python_s_bytes(
    either: Build, bundle: Path, gop: int | None, pixels: np.ndarray, raw: Path, tmp_path: Path
) -> None:
    tok = Tokenizer(bundle, either.provider, threads=1)
    theirs = tmp_path / "python.safetensors"
    tok.encode(pixels, Fraction(25), gop).save(theirs)
    ours = encode(either, raw, tmp_path / "cpp.safetensors", *(("--gop", gop) if gop else ()), bundle=bundle)
    found, wanted = Tokens.load(ours), Tokens.load(theirs)
    assert found.info == wanted.info
    assert np.array_equal(found.pts, wanted.pts)
    if tok.manifest.stream.codebook_size:
        assert ours.read_bytes() == theirs.read_bytes()  # header, order, padding and checksum
    else:  # the same engine; another version of it may round otherwise
        assert np.abs(found.data - wanted.data).max() < 1e-4
        assert ours.stat().st_size == theirs.stat().st_size
    assert "verified" in run("info", ours, "--verify").output


def test_reads_every_token_file_of_python(either: Build, pixels: np.ndarray, tmp_path: Path) -> None:
    tok = Tokenizer(KL, either.provider, threads=1)
    whole, groups = tok.encode(pixels, Fraction(25)), tok.encode(pixels, Fraction(25), 2)
    windows = Tokenizer(KIT / "fsq-noncausal", either.provider, threads=1, window=8)
    files = {
        "cut": (tok, groups.slice(6, 13), False),
        "part": (tok, whole.slice(9, 14), False),
        "half": (tok, whole, True),
        "windows": (windows, windows.encode(pixels[:, :20, :24]), False),
    }
    for name, (reader, tokens, half) in files.items():
        file, out = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.rgb"
        with TokenWriter(file, tokens.info.codebook_size, half=half) as writer:
            writer.append(tokens.data)
            writer.close(tokens.info, tokens.pts)
        either.run("decode", reader.manifest.folder, file, out)
        expected = reader.decode(Tokens.load(file))
        found = np.fromfile(out, np.uint8).reshape(expected.shape)
        assert np.abs(found.astype(int) - expected).max() <= 1, name
        assert (found != expected).mean() < 1e-3, name


def test_tokens_of_another_precision_are_decoded_and_it_is_said(plain: Build, raw: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "same.safetensors", tmp_path / "other.safetensors"
    tokens = Tokens.load(encode(plain, raw, same))
    replace(tokens, info=replace(tokens.info, precision="int8")).save(other)
    for file, said in ((same, ""), (other, "vidtok: warning: tokens made in int8 are decoded in fp32, which gives")):
        out = file.with_suffix(".rgb")
        command = [plain.folder / "vidtok", "decode", FSQ, file, out, "--provider", plain.provider, "--quiet"]
        done = subprocess.run(
            [*command, "--threads", "1"], env=environment(), capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == bool(said)
    assert same.with_suffix(".rgb").read_bytes() == other.with_suffix(".rgb").read_bytes()


def test_half_rounds_as_numpy(plain: Build, raw: Path, tmp_path: Path) -> None:
    full = Tokens.load(encode(plain, raw, tmp_path / "full.safetensors", bundle=KL)).data
    half = TokenReader(encode(plain, raw, tmp_path / "half.safetensors", "--half", bundle=KL))
    assert half.dtype == "F16"
    assert np.array_equal(half.read_stored(), full.astype(np.float16))


def test_chunk_and_precision(plain: Build, raw: Path, tmp_path: Path) -> None:
    whole = encode(plain, raw, tmp_path / "whole.safetensors")
    short = encode(plain, raw, tmp_path / "short.safetensors", "--chunk", 4, "--precision", "fp32")
    assert whole.read_bytes() == short.read_bytes()
    assert "multiple of 4" in plain.run(
        "encode", FSQ, raw, tmp_path / "x.safetensors", "--size", "51x37", "--chunk", 6, code=1
    )
    assert "fp16" in plain.run(
        "encode", FSQ, raw, tmp_path / "x.safetensors", "--size", "51x37", "--precision", "fp16", code=1
    )


@pytest.mark.parametrize(("kind", "limit"), [("yuv444p", 0.1), ("yuv420p", 0.4), ("gray", 0.1)])
def test_y4m_as_python_reads_it(plain: Build, pixels: np.ndarray, kind: str, limit: float, tmp_path: Path) -> None:
    clip = y4m(tmp_path / "clip.y4m", pixels[:, :36, :50], kind)
    ours, theirs = tmp_path / "cpp.safetensors", tmp_path / "python.safetensors"
    plain.run("encode", KL, clip, ours)
    encode_file(Tokenizer(KL, plain.provider, threads=1), clip, theirs, quiet=True)
    found, wanted = Tokens.load(ours), Tokens.load(theirs)
    assert found.info == wanted.info
    assert np.array_equal(found.pts, wanted.pts)
    print(kind, np.abs(found.data - wanted.data).max())
    assert np.abs(found.data - wanted.data).max() < limit


def test_y4m_out_has_the_frames(plain: Build, raw: Path, tmp_path: Path) -> None:
    tokens = encode(plain, raw, tmp_path / "clip.safetensors")
    plain.run("decode", FSQ, tokens, tmp_path / "back.rgb")
    plain.run("decode", FSQ, tokens, tmp_path / "back.y4m")
    with VideoReader(tmp_path / "back.y4m") as reader:
        found = np.stack([frame.pixels for frame in reader]).astype(int)
        assert reader.fps == 25
    expected = np.fromfile(tmp_path / "back.rgb", np.uint8).reshape(found.shape)
    assert np.abs(found - expected).max() <= 3


def test_names_beyond_ascii_have_python_s_bytes(plain: Build, pixels: np.ndarray, raw: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(FSQ, bundle)
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "fsq-32768"', '"name": "fsq \\"ä\\" 漢 😀"'))
    theirs = tmp_path / "python.safetensors"
    Tokenizer(bundle, plain.provider, threads=1).encode(pixels, Fraction(25)).save(theirs)
    ours = encode(plain, raw, tmp_path / "cpp.safetensors", bundle=bundle)
    assert ours.read_bytes() == theirs.read_bytes()
    assert "漢 😀" in plain.run("info", ours)


def test_commands_of_the_page(plain: Build, pixels: np.ndarray, raw: Path, tmp_path: Path) -> None:
    assert plain.folder == ROOT / "runtime/cpp/build"
    (tmp_path / "runtime").symlink_to(ROOT / "runtime")  # as at the root, but what is written goes elsewhere
    y4m(tmp_path / "clip.y4m", pixels, "yuv444p")
    np.zeros((5, 48, 64, 3), np.uint8).tofile(tmp_path / "clip.rgb")
    bash(USE, tmp_path)
    assert (tmp_path / "back.f32").stat().st_size == pixels.size * 4
    assert CONFORM.split() == ["runtime/cpp/build/vidtok_tests", "conformance", "tests/conformance/kit/cases.json"]


@pytest.mark.slow
def test_embedding_as_the_page_says(plain: Build, tmp_path: Path) -> None:
    prefix, app = tmp_path / "prefix", tmp_path / "app"
    bash(INSTALL, PREFIX=str(prefix))
    app.mkdir()
    (app / "CMakeLists.txt").write_text(snippets("cmake")[0])
    (app / "app.cpp").write_text(snippets("cpp")[0])
    where = re.search(r'-DOpenVINO_DIR="[^"]*"\S*', BUILD_PLAIN)
    assert where
    bash(f"cmake -S . -B build -DCMAKE_PREFIX_PATH='{prefix}' {where[0]}\ncmake --build build", app)
    assert bash(f"build/app '{KL}'", app).stdout == "20 frames\n"
    assert bash(f"'{prefix}/bin/vidtok' info '{KL}'").stdout.startswith("bundle ")
