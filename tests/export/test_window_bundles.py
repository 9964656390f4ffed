"""Bundles of models that take windows of one call each, through the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import narrow

from vidtok_export.lowering.lower import lower
from vidtok_ref import VideoTokenizer
from vidtok_runtime import Tokenizer
from vidtok_runtime.tools.demo import synthetic_frame

WINDOWS = ["cv-vae", "open-sora-1.2", "open-sora-plan-1.2"]


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("frames", [1, 5, 9])
@torch.no_grad()
def test_lowered_it_gives_the_same(name: str, frames: int) -> None:
    model = narrow(name)
    for coder, channels, length in ((model.encoder, 3, frames), (model.decoder, 4, 1 + frames // 4)):
        x = torch.randn(2, channels, length, 8, 16, generator=torch.Generator().manual_seed(frames))
        (wanted, _), (found, state) = coder.step(x), lower(coder).step(x)
        assert not state
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def reference(model: VideoTokenizer, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents and clipped frames as the runtime gives them."""
    height, width = frames.shape[1:3]
    missing = [(0, -size % model.stream.spatial_multiple) for size in (height, width)]
    padded = np.pad(frames, ((0, 0), *missing, (0, 0)), mode="edge").astype(np.float32) / 127.5 - 1
    latent = model.encode(torch.from_numpy(padded).permute(3, 0, 1, 2)[None]).latent
    recon = model.decode(latent, len(frames))[0].permute(1, 2, 3, 0)[:, :height, :width].clamp(-1, 1)
    return latent[0].transpose(0, 1).numpy(), recon.numpy()


# An export takes 20 s; the kit's bundles of such models are run by default.
@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_in_every_splitting(exported: Callable[[VideoTokenizer], Path], name: str) -> None:
    model = narrow(name)
    folder = exported(model)
    assert model.stream.groups is not None
    window = model.stream.groups.frames
    for provider in ("cpu", "openvino"):
        tok = Tokenizer(folder, provider, threads=1)
        assert [(graph.part, graph.states) for graph in tok.manifest.graphs] == [("global", ())] * 2
        for frames, height, width in ((1, 8, 8), (6, 9, 14), (window, 8, 16), (2 * window + 3, 13, 22)):
            video = np.stack([synthetic_frame(3 * i, height, width) for i in range(frames)])
            wanted, recon = reference(model, video)
            tokens = tok.encode(video)
            np.testing.assert_allclose(tokens.data, wanted, atol=2e-5)
            back = tok.decode(tokens, dtype="float32")
            assert back.shape == video.shape
            np.testing.assert_allclose(back, recon, atol=1e-4)
            encoder = tok.encoder()
            data = np.concatenate([*(encoder.push(frame[None]) for frame in video), encoder.finish()])
            np.testing.assert_array_equal(data, tokens.data)
            decoder = tok.decoder(frames, height, width, dtype="float32")
            pieces = [decoder.push(row[None]) for row in data]
            np.testing.assert_array_equal(np.concatenate([*pieces, decoder.finish()]), back)


@pytest.mark.slow
def test_latents_as_the_pipelines_of_the_release_have_them(exported: Callable[[VideoTokenizer], Path]) -> None:
    tok = Tokenizer(exported(narrow("open-sora-1.2")), "cpu", threads=1)
    video = np.stack([synthetic_frame(i, 8, 8) for i in range(3)])
    plain, normal = tok.encode(video), tok.encode(video, normalize=True)
    shift, scale = (np.array(row)[None, :, None, None] for row in ((-0.1, 0.34, 0.27, 0.98), (3.85, 2.32, 2.33, 3.06)))
    np.testing.assert_allclose(normal.data, (plain.data - shift) / scale, atol=1e-5)


@pytest.mark.slow
def test_stages_of_whole_windows(exported: Callable[[VideoTokenizer], Path]) -> None:
    tok = Tokenizer(exported(narrow("cv-vae")), "cpu", threads=1)
    told = [[(stage.space, stage.time) for stage in graph.stages] for graph in tok.manifest.graphs]
    assert told == [
        [(1, 1), (2, 2), (4, 2), (8, 4)],
        [(8, 4), (4, 4), (4, 2), (2, 2), (1, 2), (1, 1)],
    ]
