"""TAEHV: counts, lengths, and streams that equal one shot."""

from __future__ import annotations

import pytest
import torch
from narrow import NARROW, narrow

from vidtok_ref import VARIANTS, ModelError, build
from vidtok_ref.families import make_model


def test_names_as_released() -> None:
    with torch.device("meta"):
        model = make_model(VARIANTS["taehv"])
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["encoder.2.conv.weight"] == (64, 128, 1, 1)
    assert shapes["encoder.4.conv.0.weight"] == (64, 128, 3, 3)
    assert shapes["encoder.17.bias"] == (16,)
    assert shapes["decoder.3.conv.0.weight"] == (256, 512, 3, 3)
    assert shapes["decoder.19.conv.weight"] == (128, 64, 1, 1)
    assert shapes["decoder.22.bias"] == (3,)


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 12])
@torch.no_grad()
def test_every_length_comes_back_and_streams_are_exact(frames: int) -> None:
    model = narrow("taehv")
    video = torch.rand(2, 3, frames, 8, 12, generator=torch.Generator().manual_seed(frames))
    back, encoded = model(video)
    assert back.shape == video.shape
    assert encoded.latent.shape[2] == 1 + -(-(frames - 1) // 4)
    for chunk in (1, 2):
        assert torch.allclose(model.encode(video, chunk).latent, encoded.latent, atol=1e-6)
        assert torch.allclose(model.decode(encoded.latent, frames, chunk), back, atol=1e-6)
    # The first latent sees the first four frames, or copies of the last one.
    first = torch.cat([video[:, :, :4], video[:, :, -1:].expand(-1, -1, max(0, 4 - frames), -1, -1)], dim=2)
    assert torch.allclose(model.encode(first).latent[:, :, :1], encoded.latent[:, :, :1], atol=1e-6)


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="fewer than 2"):
        build("taehv", decoder_mult=(1,))
    with pytest.raises(ModelError, match="missing"):
        build("taehv", {}, **NARROW["taehv"])
