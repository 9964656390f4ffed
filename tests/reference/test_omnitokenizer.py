"""OmniTokenizer: golden vector, names and windows."""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from conftest import ABSENT, REFERENCE, read_vector
from narrow import NARROW, narrow

from vidtok_export.lowering.lower import lower
from vidtok_ref import VARIANTS, ModelError, build
from vidtok_ref.families import make_model
from vidtok_ref.families.omnitokenizer.checkpoints import own_names

NAME = "omnitokenizer"


def test_golden_vector() -> None:
    weights, case, config = read_vector(REFERENCE / "peers" / NAME / "vector.safetensors")
    model = build(NAME, weights, released_config=config)
    with torch.no_grad():
        features = model.features(case["input"])
        encoded = model.regularization(features)
        recon = model.decode(encoded.indices, case["input"].shape[2])
    assert (features - case["latent"]).abs().max() < 2e-5
    assert torch.equal(encoded.indices, case["indices"].to(torch.int32))
    assert (recon - case["recon"]).abs().max() < 1e-4


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
    counts = listed["parameters"]
    used = counts["total"] - counts["unused_position_bias"] - counts["unused_context_norm"]
    assert sum(p.numel() for p in model.parameters()) == used
    assert type(model.config).from_release(NAME, listed["config"]) == VARIANTS[NAME]
    assert own_names({"image_discriminator.0.weight": 1, "perceptual_model.lin0.weight": 1}) == {}


@pytest.mark.parametrize("frames", [1, 4, 5, 6])
def test_every_length_comes_back_and_windows_stand_alone(frames: int) -> None:
    model = build(NAME, **NARROW[NAME] | {"frames": 5})
    video = torch.rand(1, 3, frames, 8, 8, generator=torch.Generator().manual_seed(frames)) - 0.5
    with torch.no_grad():
        back, encoded = model(video)
        assert encoded.indices.shape == (1, 2 * -(-frames // 5), 4, 4)
        assert back.shape == video.shape
        windows = [model.encode(piece).indices for piece in video.split(5, dim=2)]
        assert torch.equal(torch.cat(windows, dim=1), encoded.indices)
        # A short window is filled with its last frame.
        last = video[:, :, -(frames % 5 or 5) :]
        filled = torch.cat([last, last[:, :, -1:].expand(-1, -1, 5 - last.shape[2], -1, -1)], dim=2)
        assert torch.equal(model.encode(filled).indices, windows[-1])


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@torch.no_grad()
def test_lowered_it_gives_the_same(role: str) -> None:
    model = narrow(NAME)
    for name, parameter in model.named_parameters():
        if name.endswith(("_scale", "biases")):
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    shape = (2, 3, 8, 8, 12) if role == "encoder" else (2, 3, 2, 4, 6)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    coder = getattr(model, role)
    assert torch.allclose(lower(coder).step(x)[0], coder.step(x)[0], atol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match="spatial_pos of this configuration is 'rel'"):
        build(NAME, released_config={"spatial_pos": "rel"})
    with pytest.raises(ModelError, match="use_vae of this configuration is True"):
        build(NAME, released_config={"use_vae": True})
    with pytest.raises(ModelError, match="spatial_depth of this configuration is 6"):
        build(NAME, released_config={"spatial_depth": 6})
    with pytest.raises(ModelError, match="kinds of layers are t and w"):
        build(NAME, encoder_layers="tx")
    with pytest.raises(ModelError, match="H and W must be multiples of 4 and equal"):
        narrow(NAME).encode(torch.zeros(1, 3, 5, 4, 8))
    with pytest.raises(ModelError, match="missing"):
        build(NAME, {}, **NARROW[NAME])
