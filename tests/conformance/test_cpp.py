"""The C++ runtime: built as docs/cpp.md says, plain and under sanitizers, and held to the kit and to Python's bytes."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from cases import KIT, Case, every_case, read_cases
from material import run

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundles import find_bundle
from vidtok_runtime.demo import synthetic_frame
from vidtok_runtime.pipeline import encode_file
from vidtok_runtime.tokens import TokenReader, Tokens, TokenWriter
from vidtok_runtime.video_in import VideoReader

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/cpp.md").read_text()
BUILD = ROOT / "runtime/cpp/build"
FSQ, KL = find_bundle("tiny-fsq-32768").folder, find_bundle("tiny-kl-16chn").folder
HEIGHT, WIDTH, FRAMES = 37, 51, 21


def snippets(language: str) -> list[str]:
    """The code blocks of docs/cpp.md in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


BUILD_PLAIN, USE, INSTALL, CONFORM, SANITIZED = snippets("bash")


def environment(**more: str) -> dict[str, str]:
    """As a user's, with this Python as `python`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CMAKE_BUILD_PARALLEL_LEVEL": "2", **more}


def bash(lines: str, where: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=where, env=environment(**more), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{lines}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def needs_tools() -> None:
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    openvino = pytest.importorskip("openvino")
    if not (Path(openvino.__path__[0]) / "cmake/OpenVINOConfig.cmake").is_file():
        pytest.skip("this OpenVINO package has no CMake files")


@dataclass(frozen=True)
class Build:
    """A folder of built programs and the provider to run."""

    folder: Path
    provider: str = "openvino"

    def run(self, *args: object, code: int = 0) -> str:
        """What the program says; one line if it fails."""
        words = [str(a) for a in args]
        if words[0] in ("encode", "decode"):
            words += ["--provider", self.provider, "--threads", "1"]
        done = subprocess.run(
            [self.folder / "vidtok", *words],
            env=environment(TBB_ENABLE_SANITIZERS="1"),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
        )
        assert done.returncode == code, (words, done.returncode, done.stderr[-3000:])
        if code:
            assert re.fullmatch(r"vidtok: [^\n]+\n", done.stderr), done.stderr
            assert done.stdout == ""
        return done.stderr if code else done.stdout

    def conform(self) -> list[str]:
        done = subprocess.run(
            [self.folder / "vidtok_conformance", KIT / "cases.json", self.provider],
            env=environment(TBB_ENABLE_SANITIZERS="1"),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()


@pytest.fixture(scope="session")
def plain() -> Build:
    needs_tools()
    bash(BUILD_PLAIN)
    return Build(BUILD)


@pytest.fixture(scope="session")
def sanitized() -> Build:
    needs_tools()
    *make, _ = SANITIZED.strip().splitlines()
    bash("\n".join(make))
    return Build(BUILD / "sanitized")


@pytest.fixture(scope="session")
def ort() -> Build:
    """ONNX Runtime, where its C++ headers are."""
    needs_tools()
    root = Path(os.environ.get("ONNXRUNTIME_ROOT", "/usr"))
    if not list(root.glob("include/**/onnxruntime_cxx_api.h")):
        pytest.skip("ONNX Runtime's C++ headers are not here; set ONNXRUNTIME_ROOT to a folder with include and lib")
    bash(
        f"cmake -S runtime/cpp -B runtime/cpp/build/ort -DVIDTOK_OPENVINO=OFF -DVIDTOK_ONNXRUNTIME=ON "
        f"-DONNXRUNTIME_ROOT='{root}'\ncmake --build runtime/cpp/build/ort"
    )
    return Build(BUILD / "ort", "cpu")


@pytest.fixture(params=["plain", "sanitized", "ort"])
def build(request: pytest.FixtureRequest) -> Build:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([synthetic_frame(4 * i, HEIGHT, WIDTH) for i in range(FRAMES)])


@pytest.fixture(scope="module")
def raw(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "clip.rgb"
    pixels.tofile(path)
    return path


def encode(build: Build, raw: Path, out: Path, *more: object, bundle: Path = FSQ) -> Path:
    build.run("encode", bundle, raw, out, "--size", f"{WIDTH}x{HEIGHT}", "--fps", 25, *more)
    return out


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]


def test_every_case_in_every_chunking(build: Build) -> None:
    assert [line.split()[0] for line in build.conform()] == [case.name for case in read_cases()]


@every_case
def test_files_of_the_program(case: Case, build: Build, tmp_path: Path) -> None:
    _, height, width = case.size
    out, video, raw = tmp_path / "clip.safetensors", tmp_path / "clip.f32", tmp_path / "clip.rgb"
    build.run("encode", case.bundle, case.input, out, "--size", f"{width}x{height}", "--fps", case.fps)
    case.check_token_file(out)
    build.run("decode", case.bundle, case.tokens, video)
    case.check_video(np.fromfile(video, "<f4").reshape(*case.size, 3))
    build.run("decode", case.bundle, case.tokens, raw)
    case.check_video(np.fromfile(raw, np.uint8).reshape(*case.size, 3))


@pytest.mark.parametrize("bundle", [FSQ, KL], ids=lambda folder: folder.name)
@pytest.mark.parametrize("gop", [None, 2])
def test_token_files_have_python_s_bytes(
    build: Build, bundle: Path, gop: int | None, pixels: np.ndarray, raw: Path, tmp_path: Path
) -> None:
    tok = Tokenizer(bundle, build.provider, threads=1)
    theirs = tmp_path / "python.safetensors"
    tok.encode(pixels, Fraction(25), gop).save(theirs)
    ours = encode(build, raw, tmp_path / "cpp.safetensors", *(("--gop", gop) if gop else ()), bundle=bundle)
    found, wanted = Tokens.load(ours), Tokens.load(theirs)
    assert found.info == wanted.info
    assert np.array_equal(found.pts, wanted.pts)
    if tok.manifest.codebook_size:
        assert ours.read_bytes() == theirs.read_bytes()  # header, order, padding and checksum
    else:  # the same engine; another version of it may round otherwise
        assert np.abs(found.data - wanted.data).max() < 1e-4
        assert ours.stat().st_size == theirs.stat().st_size
    assert "verified" in run("info", ours, "--verify").output


def test_reads_every_token_file_of_python(build: Build, pixels: np.ndarray, tmp_path: Path) -> None:
    tok = Tokenizer(KL, build.provider, threads=1)
    whole, groups = tok.encode(pixels, Fraction(25)), tok.encode(pixels, Fraction(25), 2)
    windows = Tokenizer(KIT / "fsq-noncausal", build.provider, threads=1, window=8)
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
        build.run("decode", reader.manifest.folder, file, out)
        expected = reader.decode(Tokens.load(file))
        found = np.fromfile(out, np.uint8).reshape(expected.shape)
        assert np.abs(found.astype(int) - expected).max() <= 1, name
        assert (found != expected).mean() < 1e-3, name


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


def y4m(path: Path, pixels: np.ndarray, kind: str) -> Path:
    """A Y4M file by FFmpeg."""
    with av.open(str(path), "w", format="yuv4mpegpipe") as file:
        stream: Any = file.add_stream("wrapped_avframe", rate=Fraction(30000, 1001))
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = kind
        for i, picture in enumerate(pixels):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=kind, dst_colorspace="ITU601")
            frame.pts, frame.time_base = i, Fraction(1001, 30000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("kind", "limit"), [("yuv444p", 0.1), ("yuv420p", 0.4), ("gray", 0.1)])
def test_y4m_as_python_reads_it(plain: Build, pixels: np.ndarray, kind: str, limit: float, tmp_path: Path) -> None:
    clip = y4m(tmp_path / "clip.y4m", pixels[:, :36, :50], kind)
    ours, theirs = tmp_path / "cpp.safetensors", tmp_path / "python.safetensors"
    plain.run("encode", KL, clip, ours)
    encode_file(Tokenizer(KL, "openvino", threads=1), clip, theirs, quiet=True)
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


def test_bad_input_is_one_line(build: Build, raw: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    tokens = encode(build, raw, tmp_path / "clip.safetensors")
    before = tokens.read_bytes()
    out = tmp_path / "out.safetensors"
    size = ("--size", f"{WIDTH}x{HEIGHT}")
    clip = y4m(tmp_path / "clip.y4m", pixels, "yuv444p")
    cut = tmp_path / "cut.y4m"
    cut.write_bytes(clip.read_bytes()[:-100])
    assert "middle of frame 20" in build.run("encode", FSQ, cut, out, code=1)
    short = tmp_path / "short.rgb"
    short.write_bytes(raw.read_bytes()[:-1])
    assert "middle of frame 20" in build.run("encode", FSQ, short, out, *size, code=1)
    deep = y4m(tmp_path / "deep.y4m", pixels, "yuv422p")
    assert "C422" in build.run("encode", FSQ, deep, out, code=1)
    empty = tmp_path / "empty.rgb"
    empty.touch()
    assert "no frames" in build.run("encode", FSQ, empty, out, *size, code=1)
    assert "--size" in build.run("encode", FSQ, raw, out, code=1)
    assert "no file" in build.run("encode", FSQ, tmp_path / "absent.y4m", out, code=1)
    assert "manifest.json" in build.run("encode", tmp_path / "absent", raw, out, *size, code=1)
    assert "exists already" in build.run("encode", FSQ, raw, tokens, *size, code=1)
    assert "does not exist" in build.run("encode", FSQ, raw, tmp_path / "no/where.safetensors", *size, code=1)
    assert "fsq-32768" in build.run("decode", KL, tokens, tmp_path / "out.rgb", code=1)
    assert ".y4m, .rgb or .f32" in build.run("decode", FSQ, tokens, tmp_path / "out.mp4", code=1)
    assert tokens.read_bytes() == before
    assert not out.exists()
    assert not leftovers(tmp_path)


def test_altered_bundles_are_refused(build: Build, raw: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(FSQ, bundle)
    call = ("encode", bundle, raw, tmp_path / "out.safetensors", "--size", f"{WIDTH}x{HEIGHT}")
    graph, manifest = bundle / "encoder.onnx", bundle / "manifest.json"
    sound, text = graph.read_bytes(), manifest.read_text()
    graph.write_bytes(sound[:1000] + bytes([sound[1000] ^ 1]) + sound[1001:])
    assert "altered" in build.run(*call, code=1)
    graph.write_bytes(b"garbage")
    manifest.write_text(text.replace(hashlib.sha256(sound).hexdigest(), hashlib.sha256(b"garbage").hexdigest()))
    assert "cannot be used" in build.run(*call, code=1)
    graph.write_bytes(sound)
    for before, after in (
        ('"N 8 2 H W"', '"N 9 2 H W"'),
        ('"float32"', '"float16"'),
        ("state.00.conv_in", "state.00.conv_out"),
        ('"axes": "N 3 T H W"', '"axes": "N T/4 H W"'),
        ('"initial": "zeros"', '"initial": "ones"'),
        ('"encoder_frames": 16', '"encoder_frames": 17'),
        ('"encoder.onnx"', '"../encoder.onnx"'),
        ('"format_version": 1', '"format_version": 2'),
    ):
        assert before in text
        manifest.write_text(text.replace(before, after))
        build.run(*call, code=1)
    graph.unlink()
    manifest.write_text(text)
    assert "encoder.onnx is missing" in build.run(*call, code=1)
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_outside_the_graph_are_refused(build: Build, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(FSQ, bundle)
    graph, manifest = bundle / "encoder.onnx", bundle / "manifest.json"
    sound = hashlib.sha256(graph.read_bytes()).hexdigest()
    # A model (field 7) whose graph (5) has a tensor (14) that lies elsewhere.
    graph.write_bytes(bytes([7 << 3 | 2, 4, 5 << 3 | 2, 2, 14 << 3, 1]))
    manifest.write_text(manifest.read_text().replace(sound, hashlib.sha256(graph.read_bytes()).hexdigest()))
    assert "in other files" in build.run("info", bundle, "--verify", code=1)


def test_names_beyond_ascii_have_python_s_bytes(plain: Build, pixels: np.ndarray, raw: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(FSQ, bundle)
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "fsq-32768"', '"name": "fsq \\"ä\\" 漢 😀"'))
    theirs = tmp_path / "python.safetensors"
    Tokenizer(bundle, "openvino", threads=1).encode(pixels, Fraction(25)).save(theirs)
    ours = encode(plain, raw, tmp_path / "cpp.safetensors", bundle=bundle)
    assert ours.read_bytes() == theirs.read_bytes()
    assert "漢 😀" in plain.run("info", ours)


def test_damaged_text_never_crashes(sanitized: Build, raw: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    bundle, tokens = tmp_path / "bundle", tmp_path / "clip.safetensors"
    shutil.copytree(FSQ, bundle)
    encode(sanitized, raw, tokens)

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
                [sanitized.folder / "vidtok", "info", target, "--verify"],
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


def test_commands_of_the_page(plain: Build, pixels: np.ndarray, raw: Path, tmp_path: Path) -> None:
    for folder in (FSQ, KL):
        (tmp_path / folder.name).symlink_to(folder)
    y4m(tmp_path / "clip.y4m", pixels, "yuv444p")
    np.zeros((5, 48, 64, 3), np.uint8).tofile(tmp_path / "clip.rgb")
    bash(USE, tmp_path, PATH=f"{plain.folder}{os.pathsep}{environment()['PATH']}")
    assert (tmp_path / "back.f32").stat().st_size == pixels.size * 4
    bash(CONFORM)


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
