"""Weights of a narrow model in a wider one."""

import pytest
import torch

from vidtok_ref.load import build
from vidtok_ref.train.widen import widen

NARROW = {"ch": 4, "ch_mult": (1, 2, 3, 3), "num_res_blocks": 1}


@pytest.mark.parametrize("ch_mult", [(1, 4, 3, 3), (2, 4, 3, 6), (1, 2, 6, 9)])
def test_a_wider_model_has_the_same_function(ch_mult: tuple[int, ...]) -> None:
    narrow = build("kl-4chn", seed=1, **NARROW)
    wide = build("kl-4chn", **{**NARROW, "ch_mult": ch_mult})
    weights = widen(narrow.state_dict(), wide.state_dict(), 0)
    assert weights.keys() == wide.state_dict().keys()
    wide.load_state_dict(weights)
    video = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latent = narrow.features(video)
        assert torch.allclose(wide.features(video), latent, atol=1e-4 * float(latent.abs().max()))
        recon = narrow(video)[0]
        assert torch.allclose(wide(video)[0], recon, atol=1e-4 * float(recon.abs().max()))


def test_copies_of_a_channel_enter_with_different_weights() -> None:
    narrow, wide = build("kl-4chn", **NARROW), build("kl-4chn", **{**NARROW, "ch_mult": (1, 4, 3, 3)})
    kernel = widen(narrow.state_dict(), wide.state_dict(), 0)["encoder.down.1.block.0.conv2.weight"]
    one, other = kernel.split(8, dim=1)
    assert (one - other).abs().mean() > 0.1 * (one + other).abs().mean()


def test_more_latents_and_odd_widths_are_not_widened() -> None:
    narrow = build("kl-4chn", **NARROW)
    weights = widen(narrow.state_dict(), build("kl-16chn", **NARROW).state_dict(), 0)
    assert narrow.state_dict().keys() - weights.keys() == {
        "encoder.conv_out.conv.weight",
        "encoder.conv_out.conv.bias",
        "decoder.conv_in.conv.weight",
    }
    weights = widen(narrow.state_dict(), build("kl-4chn", **{**NARROW, "ch_mult": (1, 3, 3, 3)}).state_dict(), 0)
    assert "encoder.down.1.block.0.conv1.weight" not in weights
    assert "encoder.down.0.block.0.conv1.weight" in weights
