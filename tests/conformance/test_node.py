"""The kit on Node: its command line, its own tests, and files that pass between Python and JavaScript."""

from __future__ import annotations

import os
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cases import KIT, Case, read_cases
from click.testing import CliRunner
from made_kit import make_kit
from strange_bundles import lying_bundle
from web_programs import WEB, needs_node, run_node

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.cli import main
from vidtok_runtime.streaming.geometry import from_network, to_network
from vidtok_runtime.tokens.tokens import Tokens, TokenWriter
from vidtok_runtime.tools.demo import synthetic_frame

SHIPPED = Path(__file__).parents[2] / "runtime/vidtok_runtime/bundles"
pytestmark = needs_node
# A program of Node that loads its engine takes most of a second: of cases that differ in length alone one is run here.
QUICK = ["fsq-causal", "kl-causal-v1.1", "fsq-noncausal", "cogvideox-exact"]


@pytest.fixture(scope="module", autouse=True)
def _engine_loads() -> None:
    run_node("--input-type=module", "-e", "import 'onnxruntime-node'")


def vidtok(command: str, case: Case, source: Path, out: Path, *options: object) -> None:
    run_node("bin/vidtok.mjs", command, case.bundle, source, out, "--threads", 1, *options)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[] if c.name in QUICK else pytest.mark.slow, id=c.name) for c in read_cases()],
)
def test_files_of_the_program(case: Case, tmp_path: Path) -> None:
    """In one chunking; kit.test.js takes every one."""
    path, (pushes, pulls) = tmp_path / "node.safetensors", (case.pushes[-1], case.pulls[-1])
    _, height, width = case.size
    size = ("--size", f"{width}x{height}", "--fps", case.fps)
    vidtok("encode", case, case.input, path, *size, "--pushes", ",".join(map(str, pushes)))
    case.check_token_file(path)
    vidtok("decode", case, case.tokens, tmp_path / "back.f32", "--pushes", ",".join(map(str, pulls)))
    case.check_video(case.read_frames(tmp_path / "back.f32"))
    told = CliRunner().invoke(main, ["info", "--verify", str(path)])
    assert told.exit_code == 0, told.output
    assert "verified" in told.output
    video = Tokenizer(case.bundle, "cpu", threads=1).decode(Tokens.load(path), "float32")
    # Latents that differ in the last digits make frames differ in theirs.
    allowed = case.video_tolerance + 10 * case.latent_tolerance
    np.testing.assert_allclose(video, case.read_video(), atol=allowed)


@pytest.mark.parametrize("name", ["tiny-fsq-32768", "tiny-kl-16chn"])
def test_files_of_both_are_equal_to_the_byte(name: str, tmp_path: Path) -> None:
    """On one engine, ONNX Runtime on the CPU; latents may differ in the last digit where its versions do."""
    case = read_cases()[0]
    tok = Tokenizer(SHIPPED / name, "cpu", threads=1)
    tokens = tok.encode(case.read_input(), fps=Fraction(30000, 1001), gop=2)
    tokens.save(tmp_path / "python.safetensors")
    size = f"{case.size[2]}x{case.size[1]}"
    options = ("--size", size, "--fps", "30000/1001", "--gop", 2, "--threads", 1)
    run_node("bin/vidtok.mjs", "encode", SHIPPED / name, case.input, tmp_path / "node.safetensors", *options)
    found = Tokens.load(tmp_path / "node.safetensors")
    assert found.info == tokens.info
    if tok.manifest.stream.codebook_size:
        assert (tmp_path / "node.safetensors").read_bytes() == (tmp_path / "python.safetensors").read_bytes()
    else:
        np.testing.assert_allclose(found.data, tokens.data, atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_a_file_of_python_is_read_by_node(half: bool, tmp_path: Path) -> None:
    """Groups, a part cut out of them, and half precision."""
    tok = Tokenizer(SHIPPED / "tiny-kl-16chn", "cpu", threads=1)
    tokens = tok.encode(np.repeat(read_cases()[0].read_input(), 2, axis=0), gop=2).slice(7, 16)
    assert tokens.info.skip
    path = tmp_path / "python.safetensors"
    with TokenWriter(path, None, half=half) as writer:
        writer.append(tokens.data)
        writer.close(tokens.info, tokens.pts)
    bundle = SHIPPED / "tiny-kl-16chn"
    run_node("bin/vidtok.mjs", "decode", bundle, path, tmp_path / "back.rgb", "--threads", 1, "--pushes", "1,3")
    wanted = tok.decode(Tokens.load(path))
    video = np.fromfile(tmp_path / "back.rgb", np.uint8).reshape(wanted.shape)
    assert np.abs(video.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    "name",
    [
        "fsq-causal",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("kl-causal-v1.1", "fsq-noncausal", "wan-causal")),
    ],
)
def test_tiles_give_what_python_gives_of_whole_frames(name: str, tmp_path: Path) -> None:
    clip = np.stack([synthetic_frame(3 * i, 101, 139) for i in range(9)])
    clip.tofile(tmp_path / "clip.rgb")
    bundle, path, options = KIT / name, tmp_path / "clip.safetensors", ("--threads", 1, "--max-tile", 100)
    run_node("bin/vidtok.mjs", "encode", bundle, tmp_path / "clip.rgb", path, "--size", "139x101", *options)
    tok, found = Tokenizer(bundle, "cpu", threads=1), Tokens.load(path)
    wanted = tok.encode(clip).data
    assert found.data.shape == wanted.shape
    if wanted.dtype == np.int32:
        assert np.mean(found.data != wanted) <= 1e-4
    else:
        np.testing.assert_allclose(found.data, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    run_node("bin/vidtok.mjs", "decode", bundle, path, tmp_path / "back.f32", *options)
    frames = tok.decode(found, "float32")
    back = np.fromfile(tmp_path / "back.f32", "<f4").reshape(frames.shape)
    np.testing.assert_allclose(back, frames, rtol=0, atol=1e-5 * np.abs(frames).max())


def test_pixels_and_halves_are_those_of_numpy(tmp_path: Path) -> None:
    """To the bit, on random numbers and on those beside a change of rounding."""
    rng = np.random.default_rng(0)
    levels = (np.arange(256, dtype=np.float64) + 0.5) / 127.5 - 1
    near = [np.nextafter(levels.astype(np.float32), np.float32(to)) for to in (-2, 2)]
    plain = np.concatenate([rng.uniform(-1.1, 1.1, 6912).astype(np.float32), levels.astype(np.float32), *near])
    x = plain.reshape(1, 3, 1, 32, -1)
    x.tofile(tmp_path / "x")
    halves = np.concatenate([plain, rng.uniform(-40, 40, 4000).astype(np.float32), np.float32(2) ** -np.arange(30)])
    halves.astype("<f4").tofile(tmp_path / "h")
    width = x.shape[-1]
    script = f"""
        import {{ readFileSync, writeFileSync }} from 'node:fs'
        import {{ Chunk }} from '{WEB.as_uri()}/src/chunk.js'
        import {{ fromNetwork, toNetwork }} from '{WEB.as_uri()}/src/geometry.js'
        import {{ toHalf }} from '{WEB.as_uri()}/src/half.js'
        const floats = (name) => new Float32Array(new Uint8Array(readFileSync(name)).buffer)
        const model = {{ spatialMultiple: 16, square: false, pixelRange: [-1, 1] }}
        const frames = fromNetwork(new Chunk(floats('x'), [1, 3, 1, 32, {width}]), 31, {width - 1}, 'uint8', model)
        writeFileSync('pixels', frames.data)
        writeFileSync('network', toNetwork(frames, 0, 1, model).data)
        writeFileSync('halves', Uint16Array.from(floats('h'), toHalf))
    """
    run_node("--input-type=module", "-e", script, cwd=tmp_path)
    wanted = from_network(x, 31, width - 1, "uint8")
    np.testing.assert_array_equal(np.fromfile(tmp_path / "pixels", np.uint8), wanted.ravel())
    np.testing.assert_array_equal(np.fromfile(tmp_path / "network", "<f4"), to_network(wanted, 16).ravel())
    np.testing.assert_array_equal(np.fromfile(tmp_path / "halves", "<u2"), halves.astype(np.float16).view(np.uint16))


@pytest.mark.slow
def test_every_kind_of_stream(tmp_path: Path) -> None:
    """Groups, exact calls, parts, files of weights and more, on graphs made by hand."""
    make_kit(tmp_path)
    done = subprocess.run(
        ["node", "--test", WEB / "test/kit.test.js"],
        env={**os.environ, "VIDTOK_KIT": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.parametrize("path", sorted((WEB / "test").glob("*.test.js")), ids=lambda path: path.name)
def test_of_the_package(path: Path) -> None:
    run_node("--test", path)


def test_types() -> None:
    run_node("node_modules/typescript/bin/tsc", "--noEmit", "-p", ".")


@pytest.mark.parametrize(
    ("output", "axis"),
    [
        ("indices", 1),
        ("state", 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("indices", 3), ("latent", 3), ("state", 0))),
    ],
)
def test_outputs_of_other_sizes(output: str, axis: int, tmp_path: Path) -> None:
    if output == "state":
        output = read_manifest(SHIPPED / "tiny-fsq-32768").graphs[0].states[2].output
    bundle = lying_bundle(tmp_path / "lying", output, axis)
    np.zeros((21, 16, 24, 3), np.uint8).tofile(tmp_path / "clip.rgb")
    words = ("bin/vidtok.mjs", "encode", bundle, tmp_path / "clip.rgb", tmp_path / "x.safetensors", "--size", "24x16")
    done = subprocess.run(["node", *map(str, words)], cwd=WEB, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"vidtok: the encoder gave {output} of ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))
