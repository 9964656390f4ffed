"""Bundles of Cosmos through the tokenizer."""

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


@pytest.mark.parametrize("name", ["cosmos-cv-4x8x8", "cosmos-dv-4x8x8"])
def test_windows_in_every_splitting(exported: Callable[[VideoTokenizer], Path], name: str) -> None:
    model = narrow(name)
    folder = exported(model)
    for provider in ("cpu", "openvino"):
        tok = Tokenizer(folder, provider, threads=1)
        for frames in (1, 17, 20):
            video = np.stack([synthetic_frame(i, 13, 22) for i in range(frames)])
            padded = np.pad(video, ((0, 0), (0, 3), (0, 2), (0, 0)), mode="edge")
            with torch.no_grad():
                encoded = model.encode(torch.from_numpy(padded).permute(3, 0, 1, 2)[None] / 127.5 - 1)
                recon = model.decode(encoded.latent, frames)[0].permute(1, 2, 3, 0)[:, :13, :22].clamp(-1, 1)
            tokens = tok.encode(video)
            if encoded.indices is None:
                np.testing.assert_allclose(tokens.data, encoded.latent[0].transpose(0, 1), atol=2e-5)
            else:
                np.testing.assert_array_equal(tokens.data, encoded.indices[0])
            back = tok.decode(tokens, dtype="float32")
            np.testing.assert_allclose(back, recon, atol=1e-4)
            encoder = tok.encoder()
            data = np.concatenate([*(encoder.push(frame[None]) for frame in video), encoder.finish()])
            np.testing.assert_allclose(data, tokens.data, atol=2e-5)
            decoder = tok.decoder(frames, 13, 22, dtype="float32")
            pieces = [decoder.push(row[None]) for row in data]
            np.testing.assert_allclose(np.concatenate([*pieces, decoder.finish()]), back, atol=1e-4)
