"""The page and the module on WebGPU, in a Chromium whose graphics adapter computes on the CPU."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cases import KIT
from numpy.typing import NDArray
from web_programs import check_tokens, convert, drive_on_gpu, needs_chromium

from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.manifest import read_manifest
from vidtok_runtime.tokens.tokens import Tokens
from vidtok_runtime.tools.demo import synthetic_frame

BUNDLE = "fsq-causal"  # of the kit; two graphs a role, all with states
pytestmark = needs_chromium


def made_clip(frames: int, side: int) -> NDArray[np.uint8]:
    return np.stack([synthetic_frame(4 * i, side, side) for i in range(frames)])


def stream(
    address: str, provider: str, clip: NDArray[np.uint8], folder: Path, **limit: float
) -> tuple[Any, Tokens, NDArray[np.uint8]]:
    """What stream.mjs prints, its tokens and its frames; limit: `seconds` of drive_on_gpu."""
    clip.tofile(folder / "clip.rgb")
    words = ("stream.mjs", address, BUNDLE, provider, folder / "clip.rgb", clip.shape[1], folder)
    found = drive_on_gpu(*words, **limit)
    frames = np.fromfile(folder / "frames.rgb", np.uint8).reshape(clip.shape)
    return found, Tokens.load(folder / "tokens.safetensors"), frames


def calls_by_graph(calls: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Those of each graph, the graphs as they were loaded."""
    return [[call for call in calls if call["graph"] == graph] for graph in range(1 + max(c["graph"] for c in calls))]


def check_near(frames: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> None:
    """Nowhere more than one step of a pixel apart."""
    assert np.abs(frames.astype(int) - wanted).max() <= 1


def test_states_stay_on_the_device(address: str, tmp_path: Path) -> None:
    """Each call gets every state that the call before gave, and none of them was read back in between."""
    clip = made_clip(5, 16)
    found, tokens, frames = stream(address, "webgpu", clip, tmp_path)
    manifest = read_manifest(KIT / BUNDLE)
    graphs = [entry for role in ("encoder", "decoder") for entry in manifest.graphs if entry.role == role]
    for entry, (first, *later) in zip(graphs, calls_by_graph(found["calls"]), strict=True):
        assert first["states"] == []
        assert later
        for call in later:
            assert sorted(call["states"]) == sorted(state.input for state in entry.states)
            assert call["places"] == ["gpu-buffer"]
    tok = Tokenizer(KIT / BUNDLE, "cpu", threads=1)
    check_tokens(tokens, tok.encode(clip, fps=24), "webgpu")
    check_near(frames, tok.decode(tokens))


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a software device on a busy machine
def test_a_long_stream_in_constant_memory(address: str, tmp_path: Path) -> None:
    clip = made_clip(200, 16)
    (tmp_path / "wasm").mkdir()
    _, wanted, wanted_frames = stream(address, "wasm", clip, tmp_path / "wasm", seconds=3000)
    found, tokens, frames = stream(address, "webgpu", clip, tmp_path, seconds=3000)
    np.testing.assert_array_equal(tokens.data, wanted.data)
    check_near(frames, wanted_frames)
    for calls in calls_by_graph(found["calls"]):
        quarter = len(calls) // 4
        assert quarter > 10
        for memory in ("device", "engine"):
            early, late = (max(call[memory] for call in part) for part in (calls[:quarter], calls[quarter:]))
            assert 0 < late <= early, memory
    early, late = found["bytes"]
    assert late < early + 1e6


@pytest.mark.slow
def test_the_page_on_webgpu_makes_what_it_makes_on_wasm(address: str, tmp_path: Path) -> None:
    for i, picture in enumerate(made_clip(5, 64)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture[:, :, ::-1])
    pictures = sorted(tmp_path.glob("*.png"))
    found = {}
    for engine in ("wasm", "webgpu"):
        (folder := tmp_path / engine).mkdir()
        fields = {"bundle": BUNDLE, "short": 64, "fps": 25, "engine": engine}
        found[engine] = convert(address, folder, fields, *pictures)
    (said, tokens), (said_wasm, wanted) = found["webgpu"], found["wasm"]
    assert said["figures"]["Engine"] == "WebGPU"
    assert said_wasm["figures"]["Engine"].startswith("WASM")
    check_tokens(tokens, wanted, "webgpu")
    assert tokens.info.fps == Fraction(25)
    decibels, decibels_wasm = (float(one["figures"]["PSNR"].split()[0]) for one in (said, said_wasm))
    assert abs(decibels - decibels_wasm) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("way", ["destroy", "crash"])
def test_a_device_that_is_lost(address: str, tmp_path: Path, way: str) -> None:
    """The page says so in one line; its next run gets a new engine, and a device with it."""
    cv2.imwrite(str(tmp_path / "0.png"), made_clip(1, 64)[0])
    before, lost, after = drive_on_gpu("lost.mjs", address, BUNDLE, way, tmp_path / "0.png")
    assert before.startswith("Done: 1 frames, ")
    assert lost.startswith("the page says: the graphics device was lost (")
    assert "load the bundle again with a new engine" in lost
    assert "\n" not in lost
    assert after == before
