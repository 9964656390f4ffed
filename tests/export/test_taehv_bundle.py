"""A bundle of TAEHV through the tokenizer: every length in every splitting, and tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import narrow

from vidtok_ref import VideoTokenizer
from vidtok_runtime import Tokenizer
from vidtok_runtime.bundle.graph_entry import ROLES
from vidtok_runtime.tools.demo import synthetic_frame


@pytest.mark.slow
def test_every_length_in_every_splitting(exported: Callable[[VideoTokenizer], Path]) -> None:
    model = narrow("taehv")
    folder = exported(model)
    for provider in ("cpu", "openvino"):
        tok = Tokenizer(folder, provider, threads=1)
        for frames in (1, 6, 13):
            video = np.stack([synthetic_frame(i, 7, 10) for i in range(frames)])
            padded = np.pad(video, ((0, 0), (0, 1), (0, 2), (0, 0)), mode="edge")
            with torch.no_grad():
                latent = model.encode(torch.from_numpy(padded).permute(3, 0, 1, 2)[None] / 255).latent
                recon = 2 * model.decode(latent, frames)[0].permute(1, 2, 3, 0)[:, :7, :10] - 1
            tokens = tok.encode(video)
            np.testing.assert_allclose(tokens.data, latent[0].transpose(0, 1), atol=2e-5)
            back = tok.decode(tokens, dtype="float32")
            np.testing.assert_allclose(back, recon.clamp(-1, 1), atol=1e-4)
            encoder = tok.encoder()
            data = np.concatenate([*(encoder.push(frame[None]) for frame in video), encoder.finish()])
            np.testing.assert_allclose(data, tokens.data, atol=2e-5)
            decoder = tok.decoder(frames, 7, 10, dtype="float32")
            pieces = [decoder.push(row[None]) for row in data]
            np.testing.assert_allclose(np.concatenate([*pieces, decoder.finish()]), back, atol=1e-4)
    chains = [tok.manifest.chain(role, "cpu", None) for role in ROLES]
    assert {graph.part for chain in chains for graph in chain} == {"local"}
    assert [sum(len(graph.states) for graph in chain) for chain in chains] == [2, 2]
