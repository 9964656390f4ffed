"""Checkpoints in the released layout: found, read, recognised, converted, refused."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from commands import run_export
from conftest import ABSENT, REFERENCE, SHALLOWEST
from safetensors.torch import save_file

from vidtok_ref import ModelError, VideoTokenizer, build
from vidtok_ref.errors import WeightsError
from vidtok_ref.families.vidtok.checkpoints import FOLDER_VARIABLE, find_checkpoint, release_name
from vidtok_ref.families.vidtok.variant import VARIANTS
from vidtok_ref.families.weights_file import embedded_variant, write_weights
from vidtok_ref.weights import read_weights, weights_sha256


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A narrow checkpoint as released: the model, its losses, a running average."""
    tensors = build("kl-4chn", seed=3, ch=4).state_dict()
    path = tmp_path / f"{release_name(VARIANTS['kl-4chn'])}.ckpt"
    other = {"loss.logvar": torch.zeros(1), "model_ema.decay": torch.ones(1)}
    torch.save({"state_dict": {**tensors, **other}, "global_step": 7}, path)
    return path


def test_release_names() -> None:
    path = REFERENCE / "checkpoint_keys.json.gz"
    assert release_name(VARIANTS["fsq-32768-8x8x8-v1.1"]) == "vidtok_fsq_causal_888_32768_v1_1"
    assert len({release_name(v) for v in VARIANTS.values()}) == 23
    if not path.is_file():
        pytest.skip(ABSENT)
    with gzip.open(path, "rt") as file:
        assert set(json.load(file)["models"]) == {release_name(v) for v in VARIANTS.values()}


def test_folders_are_searched_in_order(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = VARIANTS["kl-4chn"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    refused = run_export("--variant", variant.name)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    for way in ("--checkpoint", FOLDER_VARIABLE, "./checkpoints", "vidtok-onnx[hub]", "--seed", released.name):
        assert way in refused.stderr
    (tmp_path / "checkpoints").mkdir()
    here = tmp_path / "checkpoints" / released.name
    here.write_bytes(released.read_bytes())
    assert find_checkpoint(variant).resolve() == here
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert find_checkpoint(variant) == released


@pytest.mark.parametrize("name", ["kl-4chn", "kl-4chn-v1.1"])
def test_the_hub_is_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked = []

    def download(repo: str, file: str) -> str:
        asked.append((repo, file))
        if len(asked) > 1:
            raise OSError("no network")
        return str(tmp_path / "cached.ckpt")

    hub = ModuleType("huggingface_hub")
    hub.hf_hub_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(VARIANTS[name]) == tmp_path / "cached.ckpt"
    folder = "checkpoints/vidtok_v1_1" if name.endswith("1.1") else "checkpoints"
    assert asked == [("microsoft/VidTok", f"{folder}/{release_name(VARIANTS[name])}.ckpt")]
    with pytest.raises(ModelError, match="no network"):
        find_checkpoint(VARIANTS[name])


def test_losses_and_averages_are_left_out(released: Path) -> None:
    assert weights_sha256(build("kl-4chn", released, ch=4)) == weights_sha256(build("kl-4chn", seed=3, ch=4))


def test_a_wrong_checkpoint_is_recognised(released: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "mine.ckpt"
    renamed.write_bytes(released.read_bytes())
    with pytest.raises(ModelError, match=r"misshapen.*they look like kl-4chn or kl-4chn-v1.1"):
        build("kl-8chn", renamed, ch=4)
    with pytest.raises(ModelError, match=r"missing.*unexpected.*they look like kl-4chn"):
        build("kl-4chn-noncausal", renamed, ch=4)
    for name in ("kl-4chn-noncausal", "fsq-32768-8x8x8-v1.1"):
        with pytest.raises(ModelError, match=f"they look like {name}, at 1/32 of the released width"):
            build("kl-16chn", build(name, ch=4).state_dict(), ch=4)


def test_the_two_versions_are_told_apart_by_what_the_file_says(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"released name of kl-4chn, not of kl-4chn-v1.1"):
        build("kl-4chn-v1.1", released, ch=4)
    converted = tmp_path / "c.safetensors"
    done = run_export("convert", released, "--variant", "kl-4chn", "--ch", 4, "-o", converted)
    assert done.exit_code == 0, done.output
    with pytest.raises(ModelError, match=r"version 1.0, not 1.1"):
        build("kl-4chn-v1.1", converted, ch=4)
    with pytest.raises(ModelError, match="ch 4, not 128"):
        build("kl-4chn", converted)


def test_convert(released: Path, tmp_path: Path) -> None:
    out = released.with_suffix(".safetensors")
    assert run_export("convert", released).exit_code == 2  # a .ckpt does not say which variant it is
    done = run_export("convert", released, "--variant", "kl-4chn", "--ch", 4)
    assert done.exit_code == 0, done.output
    variant = embedded_variant(out)
    assert variant is not None
    assert (variant.name, variant.ch) == ("kl-4chn", 4)
    assert all(not name.startswith(("loss.", "model_ema.")) for name in read_weights(out))
    assert weights_sha256(build(variant, out)) == weights_sha256(build("kl-4chn", seed=3, ch=4))
    again = run_export("convert", released, "--variant", "kl-4chn", "--ch", 4)
    assert again.exit_code == 1
    assert "--force" in again.stderr
    before = out.read_bytes()
    broken = tmp_path / "broken.ckpt"
    broken.write_text("no checkpoint")
    assert run_export("convert", broken, "--variant", "kl-4chn", "-o", out, "--force").exit_code == 1
    assert out.read_bytes() == before


def test_written_weights_may_be_read_by_whoever_may_read_new_files(tmp_path: Path) -> None:
    model = build("kl-4chn", seed=3, **SHALLOWEST)
    (tmp_path / "plain").touch()
    write_weights(model, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(WeightsError, match=r"none/model\.safetensors cannot be written: No such file or directory$"):
        write_weights(model, tmp_path / "none/model.safetensors")


@pytest.mark.parametrize("shallow", ["kl-4chn"], indirect=True)
def test_verify_measures_again(bundle: Path, shallow: VideoTokenizer, tmp_path: Path) -> None:
    weights, other = tmp_path / "w.safetensors", tmp_path / "other.safetensors"
    save_file(shallow.state_dict(), weights, {"variant": json.dumps(shallow.config.to_dict())})
    measured = run_export("verify", bundle, "--checkpoint", weights)
    assert measured.exit_code == 0, measured.output
    assert measured.output.count("passed") == 2
    save_file(build(shallow.config, seed=6).state_dict(), other)
    refused = run_export("verify", bundle, "--checkpoint", other)
    assert refused.exit_code == 1
    assert "give --checkpoint the file" in refused.stderr


@pytest.mark.parametrize("shallow", ["fsq-32768"], indirect=True)
def test_verify_rebuilds_untrained_weights_from_their_seed(bundle: Path) -> None:
    measured = run_export("verify", bundle)
    assert measured.exit_code == 0, measured.output
