"""First weights from a narrower trained model, or from what a run of the same model has reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_runs import last_state, tiny_recipe

from vidtok_ref import build
from vidtok_ref.errors import DataError, VariantError
from vidtok_ref.families.vidtok import growth
from vidtok_ref.families.vidtok.growth import start_from_narrow
from vidtok_ref.families.weights_file import embedded_variant
from vidtok_ref.tokenizer import VideoTokenizer
from vidtok_ref.train.first_weights import first_model
from vidtok_ref.train.material import Material
from vidtok_ref.weights import read_weights
from vidtok_runtime.bundle.lookup import SHIPPED

NARROW = {"ch": 4, "ch_mult": (1, 2, 3, 3), "num_res_blocks": 1}
WIDE = {"ch": 4, "ch_mult": (1, 3, 6, 6), "num_res_blocks": 1}  # 1, 1.5 and 2 times as wide
SCRIPTS = str(Path(__file__).parents[2] / "scripts")


@torch.no_grad()
def narrow_model(name: str) -> VideoTokenizer:
    """A model in which no gain is 1 and no bias 0."""
    model = build(name, **NARROW)
    seeded = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape, generator=seeded)
    return model


def clip() -> Tensor:
    return torch.rand(1, 3, 8, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1


@torch.no_grad()
@pytest.mark.parametrize("name", ["kl-4chn", "kl-4chn-v1.1", "fsq-262144-noncausal"])
def test_a_grown_model_does_what_the_narrow_one_did(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide = narrow_model(name), build(name, **WIDE)
    h, recon = narrow.features(clip()), narrow(clip())[0]
    start_from_narrow(wide, narrow)
    assert (wide.features(clip()) - h).std() < 0.25 * h.std()
    monkeypatch.setattr(growth, "SPREAD", 0.0)
    start_from_narrow(wide, narrow)
    torch.testing.assert_close(wide.features(clip()), h, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(wide(clip())[0], recon, rtol=1e-3, atol=1e-3)


def test_everything_learns_from_a_grown_start() -> None:
    model = build("kl-4chn", **WIDE)
    start_from_narrow(model, narrow_model("kl-4chn"))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(2):  # what reads a new channel moves first
        optimizer.zero_grad()
        recon, encoded = model(clip())
        assert encoded.log_variance is not None
        ((recon - clip()).square().mean() + encoded.log_variance.square().mean()).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        if name.endswith("attn_1.k.conv.bias"):  # of keys: it shifts all scores alike
            continue
        assert parameter.grad is not None
        assert parameter.grad.reshape(len(parameter), -1).any(1).all(), name


@torch.no_grad()
def test_equal_widths_are_taken_as_they_are() -> None:
    narrow, other = narrow_model("kl-4chn"), build("kl-4chn", seed=3, **NARROW)
    start_from_narrow(other, narrow)
    assert all(torch.equal(tensor, narrow.state_dict()[name]) for name, tensor in other.state_dict().items())


def test_what_cannot_grow() -> None:
    narrow = build("kl-4chn", **NARROW)
    for changes in ({"num_res_blocks": 2}, {"ch_mult": (1, 2, 3, 2)}, {"ch_mult": (1, 2, 3, 4)}):
        with pytest.raises(VariantError, match=r"cannot grow|differs in more"):
            start_from_narrow(build("kl-4chn", **NARROW | changes), narrow)
    with pytest.raises(VariantError, match="differs in more"):
        start_from_narrow(build("kl-8chn-2x8x8", **NARROW), narrow)


def test_a_recipe_grows_a_shipped_model(tmp_path: Path) -> None:
    wide = (("kl-4chn", "kl-16chn"), ("[1, 1, 2, 2]", "[1, 4, 8, 8]"))
    recipe = tiny_recipe(tmp_path, *wide, ("ema = 0.995", 'start = "grown"\ninit = "tiny-kl-16chn"'))
    tiny_weights = read_weights(SHIPPED / "tiny-kl-16chn/tiny-kl-16chn.safetensors")
    weights = first_model(recipe, Material()).state_dict()
    name = "encoder.down.1.block.0.conv1.weight"
    assert (weights[name].shape, tiny_weights[name].shape) == ((32, 8, 3, 3), (16, 8, 3, 3))
    assert torch.equal(weights[name][:16], tiny_weights[name].float())
    without = replace(recipe, model=replace(recipe.model, init=""))
    with pytest.raises(DataError, match="needs an `init`"):
        first_model(without, Material())


def test_a_run_goes_on_from_what_was_kept_of_it(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from keep_run import keep

    kept = tmp_path / "kept.safetensors"
    keep(whole, kept)
    variant, weights, state = embedded_variant(kept), read_weights(kept), last_state(whole)
    assert variant is not None
    assert variant.ch == 8
    assert kept.stat().st_size < 0.6 * (whole / "best.safetensors").stat().st_size
    for start in ("random", "grown"):
        recipe = tiny_recipe(tmp_path, ("ema = 0.995", f'start = "{start}"'))
        for name, tensor in first_model(recipe, Material(), kept).state_dict().items():
            assert torch.equal(weights[name], state[f"average.{name}"].half())
            assert torch.equal(tensor, weights[name].float())
