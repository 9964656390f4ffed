"""The checks of the golden vectors on small vectors that come with the project (scripts/make_vectors.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_reference import compare_with_vectors

from vidtok_ref import build
from vidtok_ref.families.vidtok.variant import VARIANTS, Variant

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("*.safetensors"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
@torch.no_grad()
def test_small_vectors_one_shot_and_streamed(path: Path) -> None:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        variant = Variant.from_dict(json.loads(file.metadata()["variant"]))
    compare_with_vectors(build(variant, {k: t for k, t in tensors.items() if "." in k}), tensors)


def test_every_causal_variant_of_version_1_0_has_a_small_vector() -> None:
    assert {path.stem for path in VECTORS} >= {v.name for v in VARIANTS.values() if v.causal and v.version == "1.0"}


@torch.no_grad()
def test_vectors_notice_noise_on_any_weight() -> None:
    path = next(path for path in VECTORS if path.stem == "kl-4chn")
    tensors = load_file(path)
    weights = {k: t.float() for k, t in tensors.items() if "." in k}
    with safe_open(path, "pt") as file:
        variant = Variant.from_dict(json.loads(file.metadata()["variant"]))
    model, video = build(variant, weights), tensors["input"].float()
    latent = model.encode(video).latent
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith(".k.conv.bias"):
            continue  # a constant added to every score cancels in the softmax
        tensor += 0.1 * tensor.abs().mean() * torch.randn(tensor.shape, generator=generator)
        moved = latent if name.startswith("decoder.") else model.encode(video).latent
        recon = model.decode(moved, video.shape[2])
        assert (recon - tensors["recon"]).abs().max() > 1e-4, name
        tensor.copy_(weights[name])
    torch.testing.assert_close(model(video)[0], tensors["recon"], atol=1e-4, rtol=0)  # without noise
