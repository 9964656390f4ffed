"""Open-MAGVIT2: golden vector, names and windows."""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from conftest import ABSENT, REFERENCE, read_vector

from vidtok_export.lowering.lower import lower
from vidtok_ref import VARIANTS, ModelError, build
from vidtok_ref.families import make_model
from vidtok_ref.families.magvit.checkpoints import own_names

NAME = "magvit2-open"
NARROW = {"ch": 2, "ch_mult": (1, 2, 2), "num_res_blocks": 1, "z_channels": 3, "groups": 2, "window": 5}


@pytest.mark.parametrize("which", ["", "_chunked"])
def test_golden_vector(which: str) -> None:
    weights, case, config = read_vector(REFERENCE / "peers" / NAME / "vector.safetensors")
    model, video = build(NAME, weights, released_config=config), case["input_long" if which else "input"]
    with torch.no_grad():
        features = model.features(video)
        encoded = model.regularization(features)
        recon = model.decode(encoded.indices, video.shape[2])
    assert (features - case[f"latent{which}"]).abs().max() < 5e-5
    assert torch.equal(encoded.indices, case[f"indices{which}"].to(torch.int32))
    assert (recon - case[f"recon{which}"]).abs().max() < 1e-4


def test_names_and_shapes_of_what_the_release_uses() -> None:
    path = REFERENCE / "peers" / NAME / "keys.json.gz"
    if not path.is_file():
        pytest.skip(ABSENT)
    with gzip.open(path) as file:
        listed = json.load(file)
    with torch.device("meta"):
        model = make_model(VARIANTS[NAME])
    ours = {tensor_name: list(tensor.shape) for tensor_name, tensor in model.state_dict().items()}
    assert own_names(listed["keys"]) == ours
    assert own_names(ours) == ours
    assert sum(p.numel() for p in model.parameters()) == listed["parameters"]["total"]
    assert type(model.config).from_release(NAME, listed["config"]) == VARIANTS[NAME]


def test_running_averages_are_what_the_release_reconstructs_with() -> None:
    given = {"encoder.conv_out.conv_1.bias": 1, "model_ema.encoderconv_outconv_1bias": 2, "model_ema.decay": 3}
    assert own_names(given) == {"encoder.conv_out.bias": 2}


@pytest.mark.parametrize("frames", [1, 2, 5, 6, 8])
def test_every_length_comes_back_and_windows_stand_alone(frames: int) -> None:
    model = build(NAME, **NARROW)
    video = torch.rand(1, 3, frames, 4, 8, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    with torch.no_grad():
        back, encoded = model(video)
        assert back.shape == video.shape
        assert back.isfinite().all()
        windows = [model.encode(piece).indices for piece in video.split(5, dim=2)]
        assert torch.equal(torch.cat(windows, dim=1), encoded.indices)
        # Frames in front fill the first latent only.
        padded = model.pad(video[:, :, :5])
        changed = torch.cat([torch.rand_like(padded[:, :, :1]), padded[:, :, 1:]], dim=2)
        assert torch.equal(model.encoder.step(padded)[0], model.encoder.step(changed)[0])


def test_a_single_latent_has_no_spread() -> None:
    model = build(NAME, **NARROW)
    with torch.no_grad():
        assert model.decode(torch.zeros(1, 1, 1, 1, dtype=torch.int32)).isfinite().all()


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@torch.no_grad()
def test_lowered_it_gives_the_same(role: str) -> None:
    model = build(NAME, **NARROW)
    shape = (2, 3, 6, 8, 12) if role == "encoder" else (2, 3, 3, 2, 3)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    coder = getattr(model, role)
    assert torch.allclose(lower(coder).step(x)[0], coder.step(x)[0], atol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="n_embed of this configuration is 1024"):
        build(NAME, released_config={"n_embed": 1024})
    with pytest.raises(ModelError, match="double_z of this configuration is True"):
        build(NAME, released_config={"ddconfig": {"double_z": True}})
    with pytest.raises(ModelError, match="a window is 1 plus a multiple of 4, got 16"):
        build(NAME, window=16)
    with pytest.raises(ModelError, match="missing"):
        build(NAME, {}, **NARROW)
