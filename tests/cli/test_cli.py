"""`vidtok-run` as a user types it: results, names, and one clear line for every bad input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from commands import run

from vidtok_runtime.bundle.lookup import SHIPPED
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.video.reader import VideoReader

BUNDLES = ["tiny-kl-16chn", "tiny-fsq-32768"]


def fails(result: Result, message: str, folder: Path, files: list[str]) -> None:
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert sorted(p.name for p in folder.iterdir()) == sorted(files)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_there_and_back(clip: Path, tmp_path: Path, bundle: str) -> None:
    tokens, back = tmp_path / "t.safetensors", tmp_path / "back.mp4"
    encoded = run("encode", clip, "-o", tokens, "--bundle", bundle, "--provider", "cpu")
    assert encoded.exit_code == 0, encoded.output
    assert "11 frames of 51x37" in encoded.stdout
    decoded = run("decode", tokens, "-o", back, "--provider", "openvino", "--quiet")  # finds the bundle by its weights
    assert decoded.exit_code == 0, decoded.output
    with VideoReader(clip) as a, VideoReader(back) as b:
        assert (a.height, a.width, a.fps) == (b.height, b.width, b.fps)
        assert [float(f.pts * a.time_base) for f in a] == pytest.approx([float(f.pts * b.time_base) for f in b])
    assert bundle.removeprefix("tiny-") in run("info", tokens).stdout
    assert run("info", bundle).exit_code == 0


def test_reconstruct_side_by_side(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.mp4"
    result = run("reconstruct", clip, "-o", out, "--side-by-side", "--quiet", "--provider", "cpu")
    assert result.exit_code == 0, result.output
    assert "11 frames, PSNR" in result.stdout
    with VideoReader(out) as reader:
        assert (reader.height, reader.width) == (37, 102)
        assert sum(1 for _ in reader) == 11


@pytest.mark.slow
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vidtok_runtime.tools.demo._FRAMES", 13)
    result = run("demo", "--provider", "cpu", "--threads", 1)
    assert result.exit_code == 0, result.output
    folder, lines = Path("vidtok-demo"), result.stdout.splitlines()
    assert sorted(path.suffix for path in folder.iterdir()) == sorted([".mp4", ".safetensors"] * 2 + [".mp4", ".png"])
    for name in BUNDLES:
        (line,) = (line for line in lines if line.startswith(f"{name}: PSNR "))
        assert 20 < float(line.split()[2]) < 50
        (line,) = (line for line in lines if f"{name}.safetensors: " in line)
        assert f"{(folder / name).with_suffix('.safetensors').stat().st_size:,} bytes" in line
    assert "no compressed clip" in result.stdout
    picture = cv2.imread(str(folder / "side-by-side.png"))
    assert picture.shape == (3 * (180 + 26), 960, 3)
    tops = [picture[top + 26 : top + 206] for top in range(0, len(picture), 206)]  # the clip, then a model each
    errors = [float(np.abs(tops[0].astype(int) - other).mean()) for other in tops[1:]]
    assert all(0 < error < 20 for error in errors)
    following = [line.split()[1:] for line in lines[lines.index("Try next:") + 1 :]]
    assert len(following) == 3
    for args in following:
        more = [] if args[0] == "info" else ["--provider", "cpu", "--threads", "1"]
        more += ["--end", "0.1"] if args[0] == "reconstruct" else []
        done = run(*args, *more)
        assert done.exit_code == 0, done.output
    again = run("demo", "--quiet", "--provider", "cpu")
    assert again.exit_code == 1
    assert "clip.mp4 exists already" in again.stderr


def test_demo_with_a_clip_and_one_bundle(clip: Path, tmp_path: Path) -> None:
    options = ("--bundle", "tiny-fsq-32768", "--size", "32", "--end", "0.2", "--provider", "cpu")
    result = run("demo", "--clip", clip, "--out", tmp_path / "d", *options)
    assert result.exit_code == 0, result.output
    assert Tokens.load(tmp_path / "d/tiny-fsq-32768.safetensors").info.height == 32
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "side-by-side.png",
        "tiny-fsq-32768.mp4",
        "tiny-fsq-32768.safetensors",
    ]


@pytest.mark.parametrize("shape", [(1, 1), (20, 30)])
def test_one_picture(tmp_path: Path, shape: tuple[int, int]) -> None:
    picture = tmp_path / "p.png"
    cv2.imwrite(str(picture), np.full((*shape, 3), 90, np.uint8))
    assert run("encode", picture, "--provider", "cpu", "--quiet").exit_code == 0
    assert Tokens.load(tmp_path / "p.safetensors").num_frames == 1
    done = run("decode", tmp_path / "p.safetensors", "-o", tmp_path / "q.png", "--provider", "cpu", "--quiet")
    assert done.exit_code == 0, done.output
    assert cv2.imread(str(tmp_path / "q.png")).shape == (*shape, 3)


def test_bad_clips(clip: Path, tmp_path: Path) -> None:
    text, empty, cut = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "cut.mp4"
    text.write_text("no video")
    empty.write_bytes(b"")
    cut.write_bytes(clip.read_bytes()[:-200])
    names = ["text.mp4", "empty.mp4", "cut.mp4"]
    for path in (text, empty, cut, tmp_path / "absent.mp4"):
        fails(run("encode", path, "--provider", "cpu", "--quiet"), path.name, tmp_path, names)


def test_a_clip_that_ends_early(tmp_path: Path, frames: np.ndarray) -> None:
    import av

    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 180, 320, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(20):
            noise = rng.integers(0, 256, (180, 320, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    fails(run("encode", path, "--provider", "cpu", "--quiet"), "re-download", tmp_path, ["cut.mp4"])


def test_outputs_are_safe(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    out.write_text("precious")
    fails(run("encode", clip, "-o", out, "--provider", "cpu", "--quiet"), "--force", tmp_path, ["t.safetensors"])
    assert out.read_text() == "precious"
    assert run("encode", clip, "-o", out, "--provider", "cpu", "--quiet", "--force").exit_code == 0
    result = run("decode", out, "-o", tmp_path / "no/such/folder.mp4", "--provider", "cpu", "--quiet")
    fails(result, "does not exist", tmp_path, ["t.safetensors"])
    result = run("decode", out, "-o", tmp_path / "a.gif", "--provider", "cpu", "--quiet")
    fails(result, "cannot write .gif", tmp_path, ["t.safetensors"])
    out.write_bytes(out.read_bytes()[:-10])
    fails(run("decode", out, "--provider", "cpu", "--quiet"), "truncated", tmp_path, ["t.safetensors"])


@pytest.mark.parametrize("command", ["encode", "decode", "reconstruct"])
def test_a_full_disk(clip: Path, tmp_path: Path, command: str) -> None:
    resource = pytest.importorskip("resource", reason="only POSIX systems limit the size of a file")
    source, folder = clip, tmp_path / "out"
    folder.mkdir()
    if command == "decode":
        source = tmp_path / "t.safetensors"
        assert run("encode", clip, "-o", source, "--provider", "cpu", "--quiet").exit_code == 0
    target = folder / ("t.safetensors" if command == "encode" else "v.mp4")
    target.write_text("precious")
    done = subprocess.run(
        [
            sys.executable,
            "-B",  # compiled files would be cut, too, and stay
            "-c",
            "from vidtok_runtime.cli import main; main()",
            command,
            source,
            "-o",
            target,
            "--force",
            "--quiet",
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"{target} cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert target.read_text() == "precious"
    assert [p.name for p in folder.iterdir()] == [target.name]


@pytest.mark.parametrize("name", ["t.safetensors", "v.mp4", "p.png"])
def test_a_folder_that_cannot_be_written(clip: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # an administrator may write anywhere but in the kernel's own folders
        folder = Path("/sys")
        if not folder.is_dir():
            pytest.skip("no folder here refuses this user")
    one = tmp_path / "one.png"
    cv2.imwrite(str(one), np.zeros((9, 9, 3), np.uint8))
    command = "encode" if name.endswith("safetensors") else "reconstruct"
    result = run(command, one, "-o", folder / name, "--provider", "cpu", "--quiet")
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith(f"vidtok-run: error: {folder / name} cannot be written")
    assert len(result.stderr.splitlines()) == 1


def test_bad_bundles(clip: Path, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "tiny-kl-16chn", tmp_path / "copy")
    (tmp_path / "copy/encoder.local.onnx").write_bytes(b"something else")
    command = ("encode", clip, "-o", tmp_path / "t", "--provider", "cpu", "--quiet", "--bundle")
    fails(run(*command, tmp_path / "copy"), "is altered", tmp_path, ["copy"])
    (tmp_path / "copy/encoder.local.onnx").unlink()
    fails(run(*command, tmp_path / "copy"), "encoder.local.onnx is missing", tmp_path, ["copy"])
    fails(run(*command, tmp_path / "none"), "neither a bundle folder nor a shipped bundle", tmp_path, ["copy"])


def test_tokens_of_another_variant(clip: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "t.safetensors"
    assert run("encode", clip, "-o", tokens, "--provider", "cpu", "--quiet").exit_code == 0
    command = ("decode", tokens, "--provider", "cpu", "--quiet", "--bundle", "tiny-fsq-32768")
    fails(run(*command), "made by kl-16chn", tmp_path, ["t.safetensors"])


def test_an_unknown_option_is_a_fault_of_the_call(clip: Path) -> None:
    assert run("encode", clip, "--nonsense").exit_code == 2
    for options in (["--size", "big"], ["--size", "0"], ["--provider", "tpu"], ["--threads", "0"]):
        assert run("encode", clip, *options).exit_code == 2


def test_options_of_the_engine_are_used_and_recorded(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    encode = ["encode", clip, "-o", out, "--quiet", "--provider", "openvino", "--provider-option"]
    done = run(*encode, "INFERENCE_PRECISION_HINT=f32")
    assert done.exit_code == 0, done.output
    assert Tokens.load(out).info.provider == "openvino INFERENCE_PRECISION_HINT=f32"
    fails(run(*encode, "NO=1", "--force"), "NO", tmp_path, ["t.safetensors"])
    assert run(*encode, "NO").exit_code == 2
