"""The C++ runtime in tiles: its cuts beside the kit's table, and its tokens and frames beside those of whole frames."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cases import KIT
from cpp_program import Build, environment

from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.streaming.tiled_graph import margin_of
from vidtok_runtime.streaming.tiles import ALIGNED
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.tools.demo import synthetic_frame

pytest_plugins = ["cpp_builds"]

FRAMES, HEIGHT, WIDTH = 11, 101, 139  # 26 x 35 latents, three pixels of the first missing and one of the second
PUSHES = [[1] * FRAMES, [5, 1, 5]]
TOLERANCE = 1e-5  # of the largest value
BUNDLES = ["fsq-causal", "kl-causal-v1.1", "fsq-noncausal", "wan-causal"]
# Every bundle on one engine and one on each other: how a frame is cut does not depend on the engine.
ENGINES = [
    *(("plain", name) for name in BUNDLES),
    ("openvino", "kl-causal-v1.1"),
    *(pytest.param("openvino", name, marks=pytest.mark.slow) for name in BUNDLES if name != "kl-causal-v1.1"),
    *(pytest.param("sanitized", name, marks=pytest.mark.slow) for name in BUNDLES),
]


@pytest.mark.parametrize("name", ["plain", pytest.param("sanitized", marks=pytest.mark.slow)])
def test_cuts_and_graphs_in_whole_numbers(name: str, request: pytest.FixtureRequest) -> None:
    build: Build = request.getfixturevalue(name)
    command = [build.folder / "vidtok_tests", "tiles", KIT / "tiles.json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    cuts, runs = done.stdout.splitlines()
    assert cuts == f"0 cuts of {len(json.loads((KIT / 'tiles.json').read_text())['axes'])} axes differ"
    found = re.fullmatch(r"0 of 400 streams, (\d+) of them in tiles, differ; with a smaller margin \d+", runs)
    assert found is not None
    assert int(found[1]) > 200


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiles") / "clip.rgb"
    np.stack([synthetic_frame(3 * i, HEIGHT, WIDTH) for i in range(FRAMES)]).tofile(path)
    return path


def coded(build: Build, bundle: Path, clip: Path, out: Path, *more: object) -> tuple[np.ndarray, np.ndarray]:
    """Latents or indices of the clip, and the frames that they decode to."""
    tokens, video = out / "clip.safetensors", out / "clip.f32"
    size = ("--size", f"{WIDTH}x{HEIGHT}", "--fps", 25)
    build.run("encode", bundle, clip, tokens, *size, "--force", *more)
    build.run("decode", bundle, tokens, video, "--force", *more)
    return Tokens.load(tokens).data, np.fromfile(video, "<f4")


def least(bundle: Path) -> dict[str, int]:
    """Pixels of the smallest tile that each role allows."""
    manifest = read_manifest(bundle)
    multiple, found = manifest.stream.spatial_multiple, {}
    for role in ("encoder", "decoder"):
        margins = [margin_of(graph, multiple) for graph in manifest.chain(role, "openvino", None)]
        found[role] = (2 * max(margin for margin in margins if margin is not None) + ALIGNED) * multiple
    return found


@pytest.mark.parametrize(("engine", "name"), ENGINES)
def test_tiles_are_whole_frames_in_every_chunking(
    engine: str, name: str, clip: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    build: Build = request.getfixturevalue(engine)
    if engine == "openvino" and build.provider == request.getfixturevalue("plain").provider:
        pytest.skip("there is one engine here, which the plain build has")
    data, frames = coded(build, KIT / name, clip, tmp_path)
    one = {
        "name": name,
        "bundle": str(KIT / name),
        "frames": FRAMES,
        "height": HEIGHT,
        "width": WIDTH,
        "fps": "25/1",
        "input": str(clip),
        "tokens": "clip.safetensors",
        "video": "clip.f32",
        "pushes": PUSHES,
        "pulls": [[1] * len(data), [len(data)]],
        "latent_tolerance": TOLERANCE * float(np.abs(data).max()) if data.ndim == 4 else 0,
        "video_tolerance": TOLERANCE * float(np.abs(frames).max()),
        "tokens_exact": True,
    }
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps({"format": "vidtok-conformance", "version": 1, "cases": [one]}))
    for side in (max(least(KIT / name).values()), 120)[: 2 if name == "kl-causal-v1.1" else 1]:
        (line,) = build.conform(cases, side)
        assert line.startswith(f"{name} {build.provider} latent"), line


def test_tiles_of_calls_of_other_lengths(plain: Build, clip: Path, tmp_path: Path) -> None:
    bundle = KIT / "kl-causal-v1.1"
    data, frames = coded(plain, bundle, clip, tmp_path)
    tiled, back = coded(plain, bundle, clip, tmp_path, "--max-tile", 100, "--chunk", 4)
    assert np.abs(tiled - data).max() <= TOLERANCE * np.abs(data).max()
    assert np.abs(back - frames).max() <= TOLERANCE * np.abs(frames).max()


def test_tiles_that_there_cannot_be(plain: Build, clip: Path, tmp_path: Path) -> None:
    out, bundle = tmp_path / "x.safetensors", tmp_path / "bundle"
    shutil.copytree(KIT / "fsq-causal", bundle)
    words = ("encode", bundle, clip, out, "--size", f"{WIDTH}x{HEIGHT}", "--max-tile")
    pixels = least(bundle)["encoder"]
    said = plain.run(*words, pixels - 1, code=1)
    assert f"tiles of the encoder of {read_manifest(bundle).name} are {pixels} pixels at least" in said
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"local"', '"global"'))
    assert "cannot be cut into tiles; leave max_tile out" in plain.run(*words, pixels, code=1)
    assert not out.exists()
