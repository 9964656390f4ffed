"""Checkpoints of every family as they are published, and what is said of those that belong to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import NARROW
from safetensors.torch import save_file
from torch import Tensor

from vidtok_ref import ModelError, VideoTokenizer, build, find_variant
from vidtok_ref.families import all_families, family_of
from vidtok_ref.weights import read_weights

UNSCALED: dict[str, Any] = {"latent_mean": None, "latent_std": None, "decoder_ch": None}
# A narrow and shallow model of each.
SMALL: dict[str, dict[str, Any]] = {
    **NARROW,
    "taehv": {"ch": 4, "z_channels": 3},  # with another number of blocks all its names are others
    "wan-2.1": {**UNSCALED, "ch": 4, "z_channels": 4, "ch_mult": (1, 2), "num_res_blocks": 1, "temporal_down": (True,)},
}


@pytest.fixture(scope="module")
def models() -> dict[str, VideoTokenizer]:
    assert {family_of(find_variant(name)).name for name in SMALL} == set(all_families())
    return {name: build(name, **sizes) for name, sizes in SMALL.items()}


def said(name: str, weights: Any, **overrides: Any) -> str:
    with pytest.raises(ModelError) as caught:
        build(name, weights, **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_of_another_variant_name_their_family(models: dict[str, VideoTokenizer]) -> None:
    names = list(SMALL)
    for at, asked in enumerate(names):
        given = names[(at + 1) % len(names)]
        text = said(asked, models[given].state_dict(), **SMALL[asked])
        assert text.startswith(f"these weights do not belong to {asked}: ")
        assert text.endswith(f" of {family_of(find_variant(given)).title}"), (asked, given)


@pytest.mark.parametrize(
    ("name", "narrow", "width"),
    [
        ("wan-2.1", {"ch": 12, **UNSCALED}, "1/8 of the"),
        ("cosmos-dv-4x8x8", {"ch": 8}, "1/16 of the"),
        ("cogvideox", {"channels": (4, 8, 8, 16), "groups": 4}, "1/32 of the"),
    ],
)
def test_weights_of_another_width_say_so(name: str, narrow: dict[str, Any], width: str) -> None:
    text = said(name, build(name, **narrow).state_dict(), **SMALL[name])
    assert f"they look like {name}, at {width} released width" in text


def test_missing_and_extra_keys_are_named(models: dict[str, VideoTokenizer]) -> None:
    for name in ("wan-2.1", "cosmos-cv-4x8x8", "cogvideox"):
        weights = models[name].state_dict()
        key = next(iter(weights))
        more = {**weights, "encoder.more\n.weight": weights[key]}
        del more[key]
        assert f"1 missing: {key}; 1 unexpected: 'encoder.more\\n.weight'" in said(name, more, **SMALL[name])
        weights[key] = torch.full_like(weights[key], torch.nan)
        assert f"damaged; 1 not finite: {key}" in said(name, weights, **SMALL[name])


def test_what_resembles_no_family() -> None:
    weights = {f"features.{i}.weight": torch.zeros(1) for i in range(3)}
    text = said("cogvideox", weights, **SMALL["cogvideox"])
    assert "3 unexpected: features.0.weight" in text
    assert "nearest" not in text


WRAPPED: dict[str, Any] = {
    "plain": lambda w: w,
    "state dict": lambda w: {"state_dict": w, "epoch": 3},
    "parallel": lambda w: {f"module.{k}": t for k, t in w.items()},
    "part of a model of latents": lambda w: {
        "state_dict": {**{f"first_stage_model.{k}": t for k, t in w.items()}, "model.diffusion_model.x": torch.ones(1)}
    },
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".safetensors"])
def test_files_and_what_is_around_the_weights(tmp_path: Path, suffix: str, wrapped: str) -> None:
    weights = {"encoder.a": torch.arange(3.0), "decoder.b": torch.ones(2, dtype=torch.bfloat16)}
    content, path = WRAPPED[wrapped](weights), tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        save_file(content.get("state_dict", content), path)  # has no place for anything else
    else:
        torch.save(content, path)
    for place in (path, tmp_path):
        found = read_weights(place)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_folder_of_parts(tmp_path: Path) -> None:
    parts: list[dict[str, Tensor]] = [{"a": torch.ones(1)}, {"b": torch.zeros(2)}]
    for i, part in enumerate(parts, 1):
        save_file(part, tmp_path / f"diffusion_pytorch_model-0000{i}-of-00002.safetensors")
    assert read_weights(tmp_path).keys() == {"a", "b"}
    save_file({"a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(ModelError, match=r"has another a than .*give one file"):
        read_weights(tmp_path)


def test_a_folder_of_another_family_says_whose_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKLWan", "base_dim": 96}))
    assert "of AutoencoderKLWan, which is of Wan, not of Cosmos" in said("cosmos-dv-4x8x8", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    assert "of AutoencoderKL, not of CogVideoX" in said("cogvideox", tmp_path)
