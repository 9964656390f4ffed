"""The reference model: golden vectors, streaming, causality, weights."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ABSENT, NARROW, REFERENCE, golden
from safetensors.torch import save_file

from vidtok_ref import ModelError, VideoTokenizer, build
from vidtok_ref.families import make_model
from vidtok_ref.families.vidtok.checkpoints import release_name
from vidtok_ref.families.vidtok.variant import VARIANTS
from vidtok_ref.streaming.state import flatten
from vidtok_ref.weights import weights_sha256


def facts(name: str) -> dict[str, Any]:
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(ABSENT)
    with gzip.open(path, "rt") as file:
        return json.load(file)


EVERY_CHUNK = {"kl-4chn", "fsq-32768", "fsq-32768-v1.1"}  # one of each kind


def compare_with_vectors(model: VideoTokenizer, tensors: dict[str, torch.Tensor]) -> None:
    """One shot and streamed against recorded outputs; a file may hold several clips, by suffix."""
    chunks = (None, 1, 2, 3) if model.config.name in EVERY_CHUNK else (None, 2) if model.config.causal else (None,)
    for suffix in (k.removeprefix("input") for k in tensors if k.startswith("input")):
        video = tensors["input" + suffix].float()
        wanted = tensors["recon_full" if "recon_full" in tensors else "recon" + suffix]
        encoder_out = model.encoder.step(model.pad(video))[0]
        torch.testing.assert_close(encoder_out, tensors["encoder_out" + suffix], atol=2e-5, rtol=0)
        for chunk in chunks:
            encoded = model.encode(video, chunk)
            torch.testing.assert_close(encoded.latent, tensors["latent" + suffix], atol=2e-5, rtol=0)
            if encoded.indices is not None:
                assert torch.equal(encoded.indices, tensors["indices" + suffix])
                assert torch.equal(model.regularization.from_indices(encoded.indices), encoded.latent)
            decoded = model.decode(encoded.latent, video.shape[2], chunk)
            torch.testing.assert_close(decoded, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_golden_vectors_one_shot_and_streamed(name: str) -> None:
    compare_with_vectors(*golden(name))


@pytest.mark.parametrize("name", VARIANTS)
def test_full_width_has_the_released_tensors(name: str) -> None:
    released = facts("checkpoint_keys.json.gz")["models"][release_name(VARIANTS[name])]
    with torch.device("meta"):
        model = make_model(VARIANTS[name])
    assert {k: list(t.shape) for k, t in model.state_dict().items()} == released["state_dict"]
    for part, count in released["params"].items():
        module = model if part == "total" else getattr(model, part)
        assert sum(p.numel() for p in module.parameters()) == count


@pytest.mark.parametrize("name", [name for name, v in VARIANTS.items() if v.causal])
def test_full_width_has_the_released_states(name: str) -> None:
    listed = facts("states.json.gz")[release_name(VARIANTS[name])]
    with torch.device("meta"):
        model = make_model(VARIANTS[name])
    v = model.config
    video = torch.empty(1, 3, v.time_factor, v.spatial_factor, v.spatial_factor, device="meta")
    latent = torch.empty(1, v.z_channels, 1, 1, 1, device="meta")
    for role, x in (("encoder", video), ("decoder", latent)):
        _, state = getattr(model, role).step(x)
        found = [(name, t.shape[1], t.shape[2], v.spatial_factor // t.shape[3]) for name, t in flatten(state)]
        assert found == [(s["name"], s["channels"], s["frames"], s["spatial_div"]) for s in listed[role]]


@pytest.mark.parametrize("name", [name for name, v in VARIANTS.items() if not v.causal])
@torch.no_grad()
def test_non_causal_models_remember_nothing_and_take_windows(name: str) -> None:
    model = build(name, **{**NARROW, "ch_mult": (1,) * len(VARIANTS[name].ch_mult)})
    video = torch.rand(2, 3, 10, 16, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    encoded, state = model.encoder.step(model.pad(video))
    assert not list(flatten(state))
    assert encoded.shape[2] == 3
    windows = model.encode(video, chunk=2)
    alone = model.encode(video[:, :, 8:])
    torch.testing.assert_close(windows.latent[:, :, 2:], alone.latent, atol=1e-6, rtol=0)
    decoded = model.decode(windows.latent, 10, chunk=2)
    assert decoded.shape == video.shape
    torch.testing.assert_close(decoded[:, :, 8:], model.decode(alone.latent, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["kl-4chn", "kl-8chn-2x8x8-v1.1", "kl-4chn-v1.1", "fsq-32768-8x8x8-v1.1"])
@pytest.mark.parametrize("frames", [1, 2, 3, 9, 16, 18])
@torch.no_grad()
def test_streamed_equals_one_shot(name: str, frames: int) -> None:
    model = build(name, **NARROW)
    video = torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = model.encode(video).latent
    recon = model.decode(whole, frames)
    assert recon.shape == video.shape
    for chunk in (1, 2):
        torch.testing.assert_close(model.encode(video, chunk).latent, whole, atol=2e-5, rtol=0)
        torch.testing.assert_close(model.decode(whole, frames, chunk), recon, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_later_frame_moves_no_earlier_latent(model: VideoTokenizer, video: torch.Tensor) -> None:
    changed = video.clone()
    changed[:, :, 5:] = -changed[:, :, 5:]
    before, after = (model.encoder.step(model.pad(v))[0] for v in (video, changed))
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.equal(before[:, :, 2:], after[:, :, 2:])


def test_every_causal_convolution_has_a_state(model: VideoTokenizer, video: torch.Tensor) -> None:
    _, state = model.encoder.step(model.pad(video))
    names = [name for name, _ in flatten(state)]
    assert names[0] == "conv_in"
    assert names[-1] == "conv_out"
    assert len(names) == 16


def test_table_of_variants() -> None:
    assert len(VARIANTS) == 23
    with pytest.raises(ModelError, match="did you mean"):
        build("kl-4ch")
    with pytest.raises(ModelError, match="unknown override"):
        build("kl-4chn", width=8)


def test_weights_load_strictly_and_safely(tmp_path: Path) -> None:
    model = build("kl-4chn", **NARROW)
    tensors = dict(model.state_dict())
    released = tmp_path / "released.ckpt"
    torch.save({"state_dict": {**tensors, "loss.logvar": torch.zeros(1)}}, released)
    assert weights_sha256(build("kl-4chn", released, seed=7, **NARROW)) == weights_sha256(model)
    plain = tmp_path / "plain.safetensors"
    save_file(tensors, plain)
    assert weights_sha256(build("kl-4chn", plain, seed=7, **NARROW)) == weights_sha256(model)

    with pytest.raises(ModelError, match="missing"):
        build("kl-4chn", {k: t for k, t in tensors.items() if "conv_in" not in k}, **NARROW)
    with pytest.raises(ModelError, match="misshapen"):
        build("kl-8chn", tensors, **NARROW)
    with pytest.raises(ModelError, match="not finite"):
        build("kl-4chn", {**tensors, "encoder.conv_in.conv.bias": torch.full((8,), torch.nan)}, **NARROW)
    evil = tmp_path / "evil.ckpt"
    torch.save({"state_dict": Path("not a tensor")}, evil)
    with pytest.raises(ModelError, match="holds no state dict"):
        build("kl-4chn", evil, **NARROW)


def test_sizes_that_do_not_fit(model: VideoTokenizer) -> None:
    with pytest.raises(ModelError, match="multiples of 8"):
        model.encode(torch.zeros(1, 3, 5, 17, 24))
    with pytest.raises(ModelError, match="no empty axis"):
        model.encode(torch.zeros(1, 3, 0, 16, 24))
