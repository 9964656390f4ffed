"""The registry of families: found by folder, described without PyTorch, asked by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from vidtok_ref import VARIANTS, ModelError, build, find_variant
from vidtok_ref.families import all_families, family_of, make_model
from vidtok_runtime.bundle.stream_spec import StreamSpec


def test_families_are_the_folders() -> None:
    assert {"cogvideox", "cosmos", "cv-vae", "magvit", "omnitokenizer", "open-sora", "taehv", "wan"} <= set(
        all_families()
    )
    assert len(VARIANTS) == sum(len(family.configs) for family in all_families().values())
    for name, config in VARIANTS.items():
        family = family_of(config)
        assert config.name == name
        assert family.config.from_dict(config.to_dict()) == config
        assert isinstance(config.stream, StreamSpec)
        assert family.title
        assert family.licence


@pytest.mark.parametrize("name", sorted({next(iter(family.configs)) for family in all_families().values()}))
def test_a_model_gives_what_its_stream_says(name: str) -> None:
    spec = find_variant(name).stream
    with torch.device("meta"):
        model = make_model(find_variant(name))
        frames, side = spec.group_length("encoder") or spec.time_factor, spec.side_multiple
        x = torch.empty(1, 3, frames, side, side)
        features, _ = model.encoder.step(x)
        encoded = model.regularization.to_empty(device="cpu")(torch.zeros(features.shape, device="cpu"))
        video, _ = model.decoder.step(encoded.latent.to("meta"))
    cells = side // spec.spatial_multiple
    latents = -(-frames // spec.time_factor)
    assert encoded.latent.shape == (1, spec.latent_channels, latents, cells, cells)
    assert video.shape == (1, 3, latents * spec.time_factor, side, side)


def test_configurations_need_no_pytorch() -> None:
    told = "import sys, vidtok_ref; print(len(vidtok_ref.VARIANTS), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(VARIANTS)), "False"]


def test_what_is_refused() -> None:
    with pytest.raises(ModelError, match=r"did you mean wan-2\.1"):
        find_variant("wan-2,1")
    with pytest.raises(ModelError, match="unknown override"):
        find_variant("wan-2.1", width=4)
    with pytest.raises(ModelError, match="no configuration files of their own"):
        build("kl-4chn", released_config={})
