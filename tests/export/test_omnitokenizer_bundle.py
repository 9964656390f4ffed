"""A bundle of OmniTokenizer through the tokenizer: squares, pixels of another range, windows of always one length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from narrow import narrow

from vidtok_ref import VideoTokenizer
from vidtok_runtime import Tokenizer
from vidtok_runtime.tools.demo import synthetic_frame


@pytest.mark.slow  # an export takes 10 s to 20 s, and the kit has such a bundle
def test_windows_in_every_splitting(
    exported: Callable[[VideoTokenizer], Path], caplog: pytest.LogCaptureFixture
) -> None:
    model = narrow("omnitokenizer")
    folder = exported(model)
    for provider in ("cpu", "openvino"):
        tok = Tokenizer(folder, provider, threads=1)
        for frames in (1, 17, 20):
            video = np.stack([synthetic_frame(i, 7, 10) for i in range(frames)])
            padded = np.pad(video, ((0, 0), (0, 5), (0, 2), (0, 0)), mode="edge")
            with torch.no_grad():
                encoded = model.encode(torch.from_numpy(padded).permute(3, 0, 1, 2)[None] / 255 - 0.5)
                recon = 2 * model.decode(encoded.indices, frames)[0].permute(1, 2, 3, 0)[:, :7, :10]
            tokens = tok.encode(video)
            np.testing.assert_array_equal(tokens.data, encoded.indices[0])
            back = tok.decode(tokens, dtype="float32")
            np.testing.assert_allclose(back, recon.clamp(-1, 1), atol=1e-4)
            encoder = tok.encoder()
            data = np.concatenate([*(encoder.push(frame[None]) for frame in video), encoder.finish()])
            np.testing.assert_array_equal(data, tokens.data)
            decoder = tok.decoder(frames, 7, 10, dtype="float32")
            pieces = [decoder.push(row[None]) for row in data]
            np.testing.assert_allclose(np.concatenate([*pieces, decoder.finish()]), back, atol=1e-4)
    said = [record.message for record in caplog.records if "12x12" in record.message]
    wanted = "this model takes squares with sides of multiples of 4 pixels: 10x7 is padded to 12x12 and cropped"
    assert said == 2 * [f"{wanted} after decoding"]  # once for each tokenizer
    encoder = tok.manifest.chain("encoder", "cpu", None)[0]
    assert any(stage.attention for stage in encoder.stages)
    assert max(stage.channels for stage in encoder.stages) == 3 * 4 * 2 * 2
    nodes = onnx.load(folder / encoder.file).graph.node
    assert [node.op_type for node in nodes].count("MultiHeadAttention") == 1
