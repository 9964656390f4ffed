"""Cosmos: golden vectors, names and windows."""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from conftest import ABSENT, REFERENCE, read_vector

from vidtok_ref import VARIANTS, ModelError, build, find_variant
from vidtok_ref.families import make_model
from vidtok_ref.families.cosmos.checkpoints import own_names
from vidtok_ref.streaming.state import flatten

NAMES = ["cosmos-cv-4x8x8", "cosmos-dv-4x8x8"]


@pytest.mark.parametrize("name", NAMES)
def test_golden_vector(name: str) -> None:
    weights, case, config = read_vector(REFERENCE / "peers" / name / "vector.safetensors")
    model = build(name, weights, released_config=config)
    with torch.no_grad():
        encoded = model.encode(case["input"])
        video = model.decode(case["latent_chunked"], case["input"].shape[2])
    assert encoded.log_variance is None
    assert (encoded.latent - case["latent_chunked"]).abs().max() < 5e-5
    assert (video - case["recon_chunked"]).abs().max() < 1e-4
    if "indices_chunked" in case:
        assert encoded.indices is not None
        assert torch.equal(encoded.indices, case["indices_chunked"].to(torch.int32))


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_of_what_the_release_uses(name: str) -> None:
    path = REFERENCE / "peers" / name / "keys.json.gz"
    if not path.is_file():
        pytest.skip(ABSENT)
    with gzip.open(path) as file:
        listed = json.load(file)
    with torch.device("meta"):
        model = make_model(VARIANTS[name])
    ours = {tensor_name: list(tensor.shape) for tensor_name, tensor in model.state_dict().items()}
    assert own_names(listed["state_dict"]) == ours
    dropped = [key for key in listed["state_dict"] if key.startswith(tuple(listed["unused_prefixes"]))]
    assert len(listed["state_dict"]) == len(ours) + len(dropped)
    assert sum(p.numel() for p in model.parameters()) == listed["used_params"]
    assert find_variant(name) == type(model.config).from_release(name, listed["config"])
    assert own_names(ours) == ours


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 18, 20])
def test_every_length_comes_back_and_windows_stand_alone(frames: int) -> None:
    model = build("cosmos-cv-4x8x8", ch=2, ch_mult=(1, 2), decoder_mult=(1,), num_res_blocks=1)
    video = torch.rand(1, 3, frames, 8, 16, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    with torch.no_grad():
        back, encoded = model(video)
        assert back.shape == video.shape
        windows = [model.encode(piece).latent for piece in video.split(17, dim=2)]
        assert torch.equal(torch.cat(windows, dim=2), encoded.latent)
        # The first frame of a window stands alone, and a window remembers nothing.
        assert torch.allclose(model.encode(video[:, :, :1]).latent, encoded.latent[:, :, :1], atol=1e-5)
        assert not list(flatten(model.encoder.step(model.pad(video[:, :, :1]))[1]))


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="patch_size of this configuration is 2"):
        build(NAMES[0], released_config={"patch_size": 2})
    with pytest.raises(ModelError, match="not both with levels or both without"):
        build(NAMES[0], released_config={"levels": [8, 8, 8, 5, 5, 5]})
    with pytest.raises(ModelError, match="levels has 6 values for 5 channels"):
        build(NAMES[1], latent_channels=5)
    with pytest.raises(ModelError, match="134,217,728 codes are too many"):
        find_variant(NAMES[1], levels=(8,) * 9, latent_channels=9)
    with pytest.raises(ModelError, match="each of the levels is at least 2"):
        find_variant(NAMES[1], levels=(8, 1, 8, 5, 5, 5))
    with pytest.raises(ModelError, match="missing"):
        build(NAMES[0], {}, ch=2, ch_mult=(1, 2), decoder_mult=(1,))
