"""Which weights a run begins with: of our files and of releases, by a path or a name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow import NARROW, narrow
from safetensors.torch import load_file, save_file
from training_runs import tiny_recipe

from vidtok_ref.errors import WeightsError
from vidtok_ref.train.first_weights import first_model
from vidtok_ref.train.material import Material
from vidtok_ref.train.recipe import ModelPart, load_recipe
from vidtok_runtime.bundle.lookup import SHIPPED


def as_released(name: str) -> str:
    """The name that a release of Open-Sora-Plan has for one of our tensors; those of resampling stay ours."""
    name = re.sub(r"^(?:en|de)coder\.((?:post_)?quant_conv)\.", r"\1.conv.", name)
    return re.sub(r"\.(conv_in|conv_out|conv1|conv2|nin_shortcut|q|k|v|proj_out)\.(?!conv)", r".\1.conv.", name)


def test_released_names_have_their_place(tmp_path: Path) -> None:
    name, path = "open-sora-plan-1.2", tmp_path / "released.safetensors"
    given = narrow(name).state_dict()
    save_file({as_released(own): tensor for own, tensor in given.items()}, path)
    assert len(load_file(path).keys() - given.keys()) > len(given) / 2
    recipe = replace(tiny_recipe(tmp_path), seed=1, model=ModelPart(name, overrides=NARROW[name]))
    model = first_model(recipe, Material(), path)
    assert all(torch.equal(tensor, given[own]) for own, tensor in model.state_dict().items())


def test_weights_of_another_scale_are_refused(tmp_path: Path) -> None:
    name, path = "open-sora-1.2", tmp_path / "released.safetensors"
    save_file({**narrow(name).state_dict(), "scale": torch.ones(4)}, path)
    recipe = replace(tiny_recipe(tmp_path), model=ModelPart(name, overrides=NARROW[name]))
    with pytest.raises(WeightsError, match="scale of these weights is"):
        first_model(recipe, Material(), path)


def test_a_folder_does_not_hide_the_shipped_model_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tiny-kl-16chn"
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    [first, *_] = load_recipe(name)
    model = first_model(replace(first, model=replace(first.model, start="random", init=name)), Material())
    shipped = load_file(SHIPPED / name / f"{name}.safetensors")
    assert all(torch.equal(tensor.float(), model.state_dict()[own]) for own, tensor in shipped.items())


@pytest.mark.parametrize("name", ["kl-4chn", "open-sora-plan-1.2"])
def test_absent_released_weights_name_the_option_for_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDTOK_CHECKPOINTS", raising=False)
    part = ModelPart(name, overrides=NARROW.get(name, {"ch": 4}), init=name)
    with pytest.raises(WeightsError, match=f"no weights of {name}: give --init ") as caught:
        first_model(replace(tiny_recipe(tmp_path), model=part), Material())
    assert "--checkpoint" not in str(caught.value)
    assert "--seed" not in str(caught.value)
