"""A bundle of CogVideoX through the tokenizer: calls of exact sizes, and every length in every splitting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vidtok_export.graph import frame_unit
from vidtok_export.lowering.lower import lower
from vidtok_ref import VARIANTS, VideoTokenizer, build
from vidtok_runtime import Tokenizer
from vidtok_runtime.tools.demo import synthetic_frame

NARROW = {"channels": (4, 4, 8), "z_channels": 4, "num_res_blocks": 1, "groups": 2}


@pytest.fixture(scope="module")
def narrow() -> VideoTokenizer:
    return build("cogvideox", **NARROW)


@pytest.fixture(scope="module")
def bundle(narrow: VideoTokenizer, exported: Callable[[VideoTokenizer], Path]) -> Path:
    return exported(narrow)


def clip(frames: int) -> np.ndarray:
    return np.stack([synthetic_frame(i, 10, 14) for i in range(frames)])


@torch.no_grad()
def reference(model: VideoTokenizer, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents and clipped frames as the runtime gives them."""
    padded = np.pad(frames, ((0, 0), (0, 2), (0, 2), (0, 0)), mode="edge").astype(np.float32) / 127.5 - 1
    latent = model.encode(torch.from_numpy(padded).permute(3, 0, 1, 2)[None]).latent
    recon = model.decode(latent, len(frames))[0].permute(1, 2, 3, 0)[:, :10, :14].clamp(-1, 1)
    return latent[0].transpose(0, 1).numpy(), recon.numpy()


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@torch.no_grad()
def test_lowered_it_gives_the_same(narrow: VideoTokenizer, role: str) -> None:
    coder, channels = getattr(narrow, role), 3 if role == "encoder" else 4
    lowered, states = lower(coder), [None, None]
    for size in narrow.stream.calls(role).sizes(17 if role == "encoder" else 5):
        x = torch.randn(2, channels, size, 4, 8, generator=torch.Generator().manual_seed(size))
        (wanted, states[0]), (found, states[1]) = coder.step(x, states[0]), lowered.step(x, states[1])
        assert torch.allclose(found, wanted, atol=1e-5)


def test_frames_of_a_call_need_not_be_whole_latents() -> None:
    assert frame_unit(VARIANTS["cogvideox"].stream) == 1
    others = [stream for config in VARIANTS.values() if (stream := config.stream).length.first == 0]
    assert all(frame_unit(stream) == stream.time_factor for stream in others)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_every_length_comes_back_in_every_splitting(narrow: VideoTokenizer, bundle: Path, provider: str) -> None:
    tok = Tokenizer(bundle, provider, threads=1)
    for frames in (1, 9, 10, 17, 20):
        video = clip(frames)
        wanted, recon = reference(narrow, video)
        tokens = tok.encode(video)
        assert len(tokens.data) == 1 + 2 * -(-(frames - 1) // 8)
        np.testing.assert_allclose(tokens.data, wanted, atol=2e-5)
        back = tok.decode(tokens, dtype="float32")
        assert back.shape == video.shape
        np.testing.assert_allclose(back, recon, atol=1e-4)
        encoder = tok.encoder()
        data = np.concatenate([*(encoder.push(video[i : i + 1]) for i in range(frames)), encoder.finish()])
        np.testing.assert_allclose(data, tokens.data, atol=2e-5)
        decoder = tok.decoder(frames, *video.shape[1:3], dtype="float32")
        pieces = [decoder.push(data[i : i + 1]) for i in range(len(data))]
        np.testing.assert_allclose(np.concatenate([*pieces, decoder.finish()]), back, atol=1e-4)


def test_latents_as_the_pipelines_of_the_release_have_them(bundle: Path) -> None:
    tok = Tokenizer(bundle, "cpu", threads=1)
    plain, normal = tok.encode(clip(9)), tok.encode(clip(9), normalize=True)
    np.testing.assert_allclose(normal.data, plain.data * 1.15258426, atol=1e-5)


def test_what_the_manifest_says_of_its_graphs(bundle: Path) -> None:
    graphs = Tokenizer(bundle, "cpu", threads=1).manifest.graphs
    assert [graph.part for graph in graphs] == ["global", "global"]
    assert [flag.name for graph in graphs for flag in graph.flags] == ["first", "first"]
    told = [[(stage.space, stage.time) for stage in graph.stages] for graph in graphs]
    assert told == [[(1, 1), (1, 2), (2, 2), (2, 4), (4, 4)], [(4, 4), (2, 4), (2, 2), (1, 2), (1, 1)]]
