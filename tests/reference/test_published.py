"""Checkpoints in the forms in which projects publish them, with what their training leaves beside the weights."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from commands import run_export
from conftest import REFERENCE, read_vector
from narrow import NARROW, narrow
from torch import Tensor, nn

from vidtok_ref import ModelError, build
from vidtok_ref.archives import read_saved
from vidtok_ref.weights import read_weights, weights_sha256

Weights = dict[str, Tensor]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a training program keeps beside the weights; `torch.load` refuses the most of it."""
    settings_of_a_run: Any = type("Settings", (dict,), {"__module__": "absent_settings"})  # of a library that goes away
    absent = ModuleType("absent_settings")
    absent.Settings = settings_of_a_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "absent_settings", absent)
    settings = settings_of_a_run(lr=1e-4, steps=[1, 2])
    settings.parent = settings
    best = {"score": np.float64(0.5), "path": PurePosixPath("a")}
    return {
        "epoch": 3,
        "hyper_parameters": {"args": Namespace(lr=1e-4, sizes=(1, 2), weights=torch.ones(2)), "config": settings},
        "callbacks": {settings_of_a_run: best, ("a", 1): b"x", "seen": {1, 2}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3), "betas": (0.5, 0.9)}}, "param_groups": []}],
        "counts": defaultdict(int, a=1),
    }


def averaged(weights: Weights) -> Weights:
    """Under the names of a running average, which have no dots, beside weights that it does not equal."""
    average = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in weights.items()}
    return {**{name: tensor + 1 for name, tensor in weights.items()}, **average, "model_ema.decay": torch.tensor(0.9)}


def in_parallel(weights: Weights) -> Weights:
    return {f"module.{name}": tensor for name, tensor in weights.items()}


# What each project publishes, or its training writes, around its weights.
FORMS: dict[str, tuple[str, Callable[[Weights], dict[str, Any]]]] = {
    "omnitokenizer": (
        "imagenet_k600.ckpt",
        lambda w: {"state_dict": OrderedDict(w | {"video_discriminator.model.weight": torch.ones(2)})},
    ),
    "open-sora-1.2": ("model.pt", in_parallel),
    "open-sora-plan-1.2": (
        "checkpoint.ckpt",
        lambda w: {"state_dict": {"gen_model": in_parallel(w), "dics_model": {}}},
    ),
    "cv-vae": ("vae3d.ckpt", lambda w: {"state_dict": w}),
    "magvit2-open": (
        "video_128_262144.ckpt",
        lambda w: {"state_dict": averaged(w) | {"loss.d.weight": torch.ones(1)}},
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_projects_publish(name: str, tmp_path: Path, beside: dict[str, Any]) -> None:
    weights, _, config = read_vector(REFERENCE / "peers" / name / "vector.safetensors")
    file, form = FORMS[name]
    torch.save(form(weights) | beside, tmp_path / file)
    del sys.modules["absent_settings"]
    found, wanted = (build(name, given, released_config=config) for given in (tmp_path / file, weights))
    assert weights_sha256(found) == weights_sha256(wanted)
    assert "absent_settings" not in sys.modules


# Keys that a published `config.json` has beside those of the network.
FOLDERS: dict[str, dict[str, Any]] = {
    "open-sora-1.2": {"model_type": "VideoAutoencoder", "architectures": ["VideoAutoencoderPipeline"], "vae_2d": {}},
    "open-sora-plan-1.2": {"_class_name": "CausalVAEModel", "_diffusers_version": "0.27.2", "lr": 1e-5},
    "cv-vae": {"_class_name": "CVVAEModel", "_diffusers_version": "0.27.2"},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_projects_publish(name: str, tmp_path: Path, beside: dict[str, Any]) -> None:
    weights, _, config = read_vector(REFERENCE / "peers" / name / "vector.safetensors")
    file, form = FORMS[name]
    torch.save(form(weights) | beside, tmp_path / file)
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(config | FOLDERS[name]))
    assert weights_sha256(build(name, tmp_path)) == weights_sha256(build(name, weights, released_config=config))
    settings.write_text(json.dumps(config | {"_class_name": "AutoencoderKLWan"}))
    with pytest.raises(ModelError, match="of AutoencoderKLWan, which is of Wan, not of "):
        build(name, tmp_path)


def test_a_running_average_is_what_open_sora_plan_uses(tmp_path: Path, beside: dict[str, Any]) -> None:
    weights = {"encoder.a": torch.ones(2)}
    other = {"gen_model": {"encoder.a": torch.zeros(2)}}
    for average in (weights, in_parallel(weights)):
        torch.save({"state_dict": other, "ema_state_dict": average, **beside}, tmp_path / "a.ckpt")
        assert read_weights(tmp_path / "a.ckpt")["encoder.a"].tolist() == [1, 1]
    torch.save({"state_dict": other, "ema_state_dict": {}, **beside}, tmp_path / "a.ckpt")
    assert read_weights(tmp_path / "a.ckpt")["encoder.a"].tolist() == [0, 0]


def test_tensors_beside_objects_are_those_that_were_saved(tmp_path: Path, beside: dict[str, Any]) -> None:
    base = torch.arange(12.0)
    weights: Weights = {
        "turned": base.view(3, 4).t(),
        "part": base[4:6],
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "whole": torch.arange(3),
        "truth": torch.tensor([True, False]),
        "scalar": torch.tensor(2.0),
        "empty": torch.empty(0, 2),
        "parameter": nn.Parameter(base.clone()),
    }
    torch.save({"state_dict": weights, **beside}, tmp_path / "a.ckpt")
    found = read_weights(tmp_path / "a.ckpt")
    assert list(found) == list(weights)
    assert all(t.dtype == weights[k].dtype and torch.equal(t, weights[k]) for k, t in found.items())
    whole = read_saved(tmp_path / "a.ckpt")
    assert whole["epoch"] == 3
    assert list(whole["callbacks"]) == ["seen"]  # the other keys are a class and a tuple
    assert whole["optimizer_states"][0]["state"][0]["betas"] == (0.5, 0.9)
    assert not vars(whole["hyper_parameters"]["args"])


class Command:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("exit 7",)


@pytest.mark.parametrize("place", ["beside", "inside", "around"])
def test_no_command_in_a_checkpoint_is_run(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contents: dict[str, Any] = {
        "beside": {"state_dict": {"a": torch.ones(1)}, "run": Command()},
        "inside": {"state_dict": {"a": torch.ones(1), "b": Command()}},
        "around": Command(),
    }
    path = tmp_path / "bad.ckpt"
    torch.save(contents[place], path)
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("it was run"))
    if place != "around":
        assert read_weights(path).keys() == {"a"}
        return
    done = run_export("--variant", "cv-vae", "--checkpoint", path, "--out", tmp_path / "out")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "holds no state dict" in done.stderr
    assert not (tmp_path / "out").exists()


def test_objects_without_an_archive_are_refused(tmp_path: Path, beside: dict[str, Any]) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1)}, **beside}, path, _use_new_zipfile_serialization=False)
    told = {path: r"it holds argparse\.Namespace; save its state dict alone"}
    told[tmp_path / "text.ckpt"] = "it holds no tensors as torch.save writes them; save its state dict alone"
    told[tmp_path / "model.safetensors.index.json"] = "only lists the files of a checkpoint; give the folder"
    for other in list(told)[1:]:
        other.write_text("{}")
    for file, said in told.items():
        with pytest.raises(ModelError, match=said) as caught:
            read_weights(file)
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FORMS if name != "open-sora-1.2"])
def test_what_does_not_belong_is_one_line(name: str, tmp_path: Path, beside: dict[str, Any]) -> None:
    weights = narrow(name).state_dict()
    key, other = list(weights)[:2]
    changed = {
        f"1 missing: {key}": {k: t for k, t in weights.items() if k != key},
        "1 unexpected: encoder.more.weight": {**weights, "encoder.more.weight": torch.ones(1)},
        f"1 misshapen: {other} ": {**weights, other: weights[other][..., None]},
        "nearest to": build("cosmos-dv-4x8x8", **NARROW["cosmos-dv-4x8x8"]).state_dict(),
    }
    for said, given in changed.items():
        torch.save({"state_dict": given, **beside}, tmp_path / "a.ckpt")
        with pytest.raises(ModelError) as caught:
            build(name, tmp_path / "a.ckpt", **NARROW[name])
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
