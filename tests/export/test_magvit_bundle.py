"""A bundle of Open-MAGVIT2 through the tokenizer: a window is one call, and nothing is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import narrow

from vidtok_ref import VideoTokenizer
from vidtok_runtime import Tokenizer
from vidtok_runtime.tools.demo import synthetic_frame


@pytest.mark.slow  # an export takes 10 s to 20 s
def test_windows_in_every_splitting(exported: Callable[[VideoTokenizer], Path]) -> None:
    model = narrow("magvit2-open")
    folder = exported(model)
    for provider in ("cpu", "openvino"):
        tok = Tokenizer(folder, provider, threads=1)
        for frames in (1, 9, 12):
            video = np.stack([synthetic_frame(i, 7, 10) for i in range(frames)])
            padded = np.pad(video, ((0, 0), (0, 1), (0, 2), (0, 0)), mode="edge")
            with torch.no_grad():
                encoded = model.encode(torch.from_numpy(padded).permute(3, 0, 1, 2)[None] / 127.5 - 1)
                recon = model.decode(encoded.latent, frames)[0].permute(1, 2, 3, 0)[:, :7, :10].clamp(-1, 1)
            tokens = tok.encode(video)
            np.testing.assert_array_equal(tokens.data, encoded.indices[0])
            back = tok.decode(tokens, dtype="float32")
            np.testing.assert_allclose(back, recon, atol=1e-4)
            encoder = tok.encoder()
            data = np.concatenate([*(encoder.push(frame[None]) for frame in video), encoder.finish()])
            np.testing.assert_array_equal(data, tokens.data)
            decoder = tok.decoder(frames, 7, 10, dtype="float32")
            pieces = [decoder.push(row[None]) for row in data]
            np.testing.assert_allclose(np.concatenate([*pieces, decoder.finish()]), back, atol=1e-4)
    # Of nine frames, and one in front: stages say how long a tensor is.
    told = [[(stage.space, stage.time) for stage in graph.stages] for graph in tok.manifest.graphs]
    assert told == [[(1, 1), (2, 1), (4, 2)], [(4, 2), (2, 1), (1, 1)]]
