"""Every identity that the lowering folds, on its own and as a whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vidtok_export import lower as low
from vidtok_ref import VidTok, layers

C = 6


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, C, 4, 5, 7, generator=torch.Generator().manual_seed(0))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("reference", "lowered"),
    [
        (lambda: layers.LayerNorm(C), low.ChannelNorm),
        (lambda: layers.FrameConv2d(C, 4, 3, padding=1), low.frame_conv),
        (lambda: layers.FrameConv2d(C, 4, 1), low.frame_conv),
        (lambda: layers.SpatialDown(C), low.FoldedSpatialDown),
        (lambda: layers.SpatialUp(C), low.PhaseSpatialUp),
        (lambda: layers.Attention(C), low.PlainAttention),
    ],
)
@torch.no_grad()
def test_stateless_layers(x: torch.Tensor, reference: Any, lowered: Any) -> None:
    layer = reference()
    for parameter in layer.parameters():
        parameter.normal_()
    close(lowered(layer)(x), layer(x))


@pytest.mark.parametrize(
    ("reference", "lowered"),
    [
        (lambda: layers.CausalConv1d(C, C), low.PixelConv1d),
        (lambda: layers.TemporalDown(C), low.FoldedTemporalDown),
        (lambda: layers.TemporalUp(C), low.FoldedTemporalUp),
    ],
)
@pytest.mark.parametrize("mix", [-1.0, 2.0])
@torch.no_grad()
def test_layers_with_memory(x: torch.Tensor, reference: Any, lowered: Any, mix: float) -> None:
    layer = reference()
    if hasattr(layer, "mix_factor"):
        layer.mix_factor.fill_(mix)
    folded = lowered(layer)
    wanted, _ = layer.step(x, None)
    close(folded.step(x, None)[0], wanted)
    first, state = folded.step(x[:, :, :2], None)
    close(torch.cat([first, folded.step(x[:, :, 2:], state)[0]], dim=2), wanted)


@torch.no_grad()
def test_doubling_layers_remember_one_frame(x: torch.Tensor) -> None:
    _, state = low.FoldedTemporalUp(layers.TemporalUp(C)).step(x, None)
    assert state.shape[2] == 1


@torch.no_grad()
def test_whole_networks_and_the_original_is_left_alone(model: VidTok, video: torch.Tensor) -> None:
    before = {k: t.clone() for k, t in model.state_dict().items()}
    padded = model.pad(video)
    encoded = model.encoder.step(padded)[0]
    torch.testing.assert_close(low.lower(model.encoder).step(padded)[0], encoded, atol=2e-5, rtol=0)
    latent = model.regularization(encoded).latent
    decoded = model.decoder.step(latent)[0]
    torch.testing.assert_close(low.lower(model.decoder).step(latent)[0], decoded, atol=1e-4, rtol=0)
    assert all(torch.equal(before[k], t) for k, t in model.state_dict().items())
