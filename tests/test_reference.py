"""The reference model: golden vectors, streaming, causality, weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import NARROW, REFERENCE
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidtok_ref import VARIANTS, ModelError, VidTok, build
from vidtok_ref.state import flatten
from vidtok_ref.weights import weights_sha256

GOLDEN = {
    "kl-4chn": "vidtok_kl_causal_488_4chn",
    "kl-4chn-4x16x16": "vidtok_kl_causal_41616_4chn",
    "kl-8chn": "vidtok_kl_causal_488_8chn",
    "kl-16chn": "vidtok_kl_causal_488_16chn",
    "kl-8chn-2x8x8": "vidtok_kl_causal_288_8chn",
    "kl-4chn-4x4x4": "vidtok_kl_causal_444_4chn",
    "fsq-4096": "vidtok_fsq_causal_488_4096",
    "fsq-32768": "vidtok_fsq_causal_488_32768",
    "fsq-262144": "vidtok_fsq_causal_488_262144",
    "fsq-262144-4x16x16": "vidtok_fsq_causal_41616_262144",
}


def stream(coder: torch.nn.Module, x: torch.Tensor, step: int) -> torch.Tensor:
    state, out = None, []
    for piece in x.split(step, dim=2):
        y, state = coder.step(piece, state)
        out.append(y)
    return torch.cat(out, dim=2)


def compare_with_vectors(model: VidTok, tensors: dict[str, torch.Tensor]) -> None:
    """One shot and streamed against recorded outputs; a file may hold several clips, by suffix."""
    f = model.variant.time_factor
    for suffix in (k.removeprefix("input") for k in tensors if k.startswith("input")):
        video, wanted = tensors["input" + suffix].float(), tensors["recon" + suffix]
        count = tensors["latent" + suffix].shape[2]
        for latents in (1, 2, 3, count):
            encoded = stream(model.encoder, model.pad(video), latents * f)
            torch.testing.assert_close(encoded, tensors["encoder_out" + suffix], atol=2e-5, rtol=0)
            result = model.regularization(encoded)
            if result.indices is not None:
                assert torch.equal(result.indices, tensors["indices" + suffix])
                assert torch.equal(model.regularization.from_indices(result.indices), result.latent)
            decoded = stream(model.decoder, result.latent, latents)[:, :, f - 1 :]
            torch.testing.assert_close(decoded, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", GOLDEN)
@torch.no_grad()
def test_golden_vectors_one_shot_and_streamed(name: str) -> None:
    path = REFERENCE / "vectors" / f"{GOLDEN[name]}.safetensors"
    if not path.is_file():
        pytest.skip("the reference vectors are not here; set VIDTOK_REFERENCE to their folder")
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    weights = {k: t for k, t in tensors.items() if "." in k}
    model = build(name, weights, ch=config["model"]["ch"])
    compare_with_vectors(model, tensors)


@torch.no_grad()
def test_streamed_equals_one_shot(model: VidTok, video: torch.Tensor) -> None:
    padded = model.pad(video)
    whole = model.encoder.step(padded)[0]
    latent = model.regularization(whole).latent
    recon = model.decoder.step(latent)[0]
    for latents in (1, 2):
        torch.testing.assert_close(stream(model.encoder, padded, 4 * latents), whole, atol=2e-5, rtol=0)
        torch.testing.assert_close(stream(model.decoder, latent, latents), recon, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_later_frame_moves_no_earlier_latent(model: VidTok, video: torch.Tensor) -> None:
    changed = video.clone()
    changed[:, :, 5:] = -changed[:, :, 5:]
    before, after = (model.encoder.step(model.pad(v))[0] for v in (video, changed))
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.equal(before[:, :, 2:], after[:, :, 2:])


def test_every_causal_convolution_has_a_state(model: VidTok, video: torch.Tensor) -> None:
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
    with pytest.raises(ModelError, match="can be read safely"):
        build("kl-4chn", evil, **NARROW)


def test_sizes_that_do_not_fit(model: VidTok) -> None:
    with pytest.raises(ModelError, match="multiples of 8"):
        model.encode(torch.zeros(1, 3, 5, 17, 24))
    with pytest.raises(ModelError, match="no empty axis"):
        model.encode(torch.zeros(1, 3, 0, 16, 24))
