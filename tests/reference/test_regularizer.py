"""Regularizers: tokens and codes, straight-through gradients, and the terms of their losses."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_export
from conftest import SHALLOWEST
from torch import Tensor
from vector_quantize_pytorch import LFQ

from vidtok_ref import ModelError, VideoTokenizer, build, find_variant
from vidtok_ref.families.weights_file import write_weights
from vidtok_ref.regularizers.channel import ChannelQuantizer, FiniteScalarQuantizer, LookupFreeQuantizer
from vidtok_ref.regularizers.entropy import entropy_gap, utilization
from vidtok_ref.regularizers.kl import DiagonalGaussian
from vidtok_ref.regularizers.vq import VectorQuantizer
from vidtok_runtime import Tokenizer

BY_CHANNEL = [FiniteScalarQuantizer((8, 5, 3)), LookupFreeQuantizer(3), FiniteScalarQuantizer((4,))]


def features(channels: int, size: int = 5) -> Tensor:
    return torch.randn(2, channels, 3, size, size, generator=torch.Generator().manual_seed(0))


def named(quantizer: ChannelQuantizer) -> str:
    return f"{type(quantizer).__name__}-{quantizer.levels}"


@pytest.mark.parametrize("quantizer", BY_CHANNEL, ids=named)
def test_every_token_is_a_code_and_back(quantizer: ChannelQuantizer) -> None:
    count = torch.tensor(quantizer.levels).prod()
    tokens = torch.arange(count, dtype=torch.int32).view(1, 1, 1, -1)
    codes = quantizer.from_indices(tokens)
    assert len(codes[0].flatten(1).T.unique(dim=0)) == count
    assert codes.abs().max() == 1
    assert codes[0, 0, 0, 0, 1] > codes[0, 0, 0, 0, 0]  # channel 0 is the fastest
    h = features(len(quantizer.levels))
    encoded = quantizer(h)
    assert encoded.indices.dtype == torch.int32
    assert torch.equal(quantizer.from_indices(encoded.indices), encoded.latent)


@pytest.mark.parametrize("quantizer", BY_CHANNEL, ids=named)
def test_how_far_other_tokens_are(quantizer: ChannelQuantizer) -> None:
    h = features(len(quantizer.levels))
    own = quantizer(h).indices
    assert quantizer.distance_to_cell(h, own).max() == 0
    other = (own + 1) % torch.tensor(quantizer.levels).prod()
    assert quantizer.distance_to_cell(h, other).min() > 0
    # The next digit of channel 0, where there is one, begins half a digit above the own one.
    digit = own % quantizer.levels[0]
    inner = digit < quantizer.levels[0] - 1
    bounded = quantizer.bound(h)[:, 0].clamp(min=-quantizer.middle[0])  # below the lowest digit lies nothing
    above = digit - quantizer.middle[0] + 0.5 - bounded
    torch.testing.assert_close(quantizer.distance_to_cell(h, own + 1)[inner], above[inner], atol=1e-5, rtol=0)


def test_gradients_go_straight_through() -> None:
    h = features(3).requires_grad_()
    for quantizer in BY_CHANNEL[:2]:
        encoded, terms = quantizer.regularize(h)
        assert torch.equal(encoded.latent, quantizer(h.detach()).latent)
        assert set(terms) == {"entropy", "commitment"}
        weight = torch.randn_like(h)
        (gradient,) = torch.autograd.grad((encoded.latent * weight).sum(), h, retain_graph=True)
        (bounded,) = torch.autograd.grad((quantizer.bound(h) * weight).sum(), h)
        torch.testing.assert_close(gradient, bounded / quantizer._middle(h))
        (pull,) = torch.autograd.grad(terms["commitment"], h)
        torch.testing.assert_close(pull, 2 * (h - encoded.latent).detach() / h.numel())


@pytest.mark.parametrize("counts", [(3,), (4, 3), (2, 3, 4), (2,) * 5])
@pytest.mark.parametrize("inverse_temperature", [0.7, 20.0])
def test_factorized_entropy_is_that_over_the_whole_codebook(
    counts: tuple[int, ...], inverse_temperature: float
) -> None:
    channel_codes = [torch.linspace(-1, 0.8, n) for n in counts]
    h = features(len(counts)).requires_grad_()
    codebook = torch.tensor(list(itertools.product(*channel_codes)))
    logits = 2 * inverse_temperature * h.movedim(1, -1).flatten(0, 3) @ codebook.T
    log_p = logits.log_softmax(1)
    mean = log_p.exp().mean(0)
    wanted = -(log_p.exp() * log_p).sum(1).mean() + (mean * mean.clamp(min=1e-5).log()).sum()
    got = entropy_gap(h, channel_codes, inverse_temperature)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    for a, b in zip(*(torch.autograd.grad(loss, h) for loss in (got, wanted)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_entropy_rewards_even_use_and_clear_choices() -> None:
    quantizer = LookupFreeQuantizer(2)
    every = quantizer.from_indices(torch.arange(4).view(1, 1, 2, 2))
    even = quantizer.regularize(every)[1]["entropy"]
    torch.testing.assert_close(even, -torch.log(torch.tensor(4.0)), atol=1e-4, rtol=0)
    same = quantizer.regularize(torch.ones_like(every))[1]["entropy"]
    undecided = quantizer.regularize(torch.zeros_like(every))[1]["entropy"]
    torch.testing.assert_close(torch.stack([same, undecided]), torch.zeros(2), atol=1e-4, rtol=0)


def test_gaussian_terms() -> None:
    h = torch.cat([features(4), features(4) - 1], dim=1).requires_grad_()
    encoded, terms = DiagonalGaussian().regularize(h)
    assert torch.equal(encoded.latent, h[:, :4])
    normal = torch.distributions.Normal(h[:, :4], (0.5 * h[:, 4:]).exp())
    unit = torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(normal, unit).flatten(1).sum(1).mean()
    torch.testing.assert_close(terms["kl"], wanted)


def test_utilization() -> None:
    assert utilization(torch.tensor([[0, 3], [3, 7]]), 8) == 3 / 8


def test_lookup_free_is_that_of_the_library() -> None:
    h = features(6).requires_grad_()
    library = LFQ(dim=6, commitment_loss_weight=1.0).train()
    (latent, indices, _), parts = library(h, inv_temperature=100.0, return_loss_breakdown=True)
    encoded, terms = LookupFreeQuantizer(6).regularize(h)
    assert torch.equal(encoded.latent, latent)
    bits = 2 ** torch.arange(6)
    # The library's channel 0 is the slowest, ours the fastest, as in FSQ.
    reverse = (((indices[..., None] // bits) % 2) * bits.flip(0)).sum(-1)
    assert torch.equal(encoded.indices, reverse.int())
    # Entropies of tokens differ by the library's floor under the logarithm, which ours does not need there.
    wanted = parts.per_sample_entropy - parts.batch_entropy
    torch.testing.assert_close(terms["entropy"], wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(terms["commitment"], parts.commitment)


@pytest.fixture
def vq() -> VectorQuantizer:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 3)
    quantizer.vq.codebook = torch.randn(16, 3)
    return quantizer.eval()


def test_vectors_are_the_nearest(vq: VectorQuantizer) -> None:
    h = features(3)
    encoded = vq(h)
    distances = (h.unsqueeze(1) - vq.vq.codebook.view(1, 16, 3, 1, 1, 1)).norm(dim=2)
    assert torch.equal(encoded.indices, distances.argmin(1).int())
    assert torch.equal(encoded.latent, vq.from_indices(encoded.indices))
    assert vq.distance_to_cell(h, encoded.indices).max() == 0
    # Moved as far as another code's cell, and a little more, a token chooses that code (or one nearer still).
    other = (encoded.indices + 1) % 16
    way = torch.nn.functional.normalize(vq.from_indices(other) - encoded.latent, dim=1)
    distance = vq.distance_to_cell(h, other)
    assert distance.min() > 0
    assert torch.equal(
        vq(h + (distance - 1e-3)[:, None] * way).indices == other, torch.zeros_like(other, dtype=torch.bool)
    )
    moved = h + (distance + 1e-3)[:, None] * way
    assert (vq.distance_to_cell(moved, encoded.indices) > 0).all()


def test_vectors_learn_without_a_loss_and_only_in_training(vq: VectorQuantizer) -> None:
    h = features(3).requires_grad_()
    before = vq.vq.codebook.clone()
    held = vq.regularize(h)[0]
    assert torch.equal(vq.vq.codebook, before)
    encoded, terms = vq.train().regularize(h)
    assert torch.equal(encoded.indices, held.indices)
    torch.testing.assert_close(encoded.latent.detach(), held.latent.detach(), atol=1e-6, rtol=0)
    weight = torch.randn_like(h)
    (gradient,) = torch.autograd.grad((encoded.latent * weight).sum(), h, retain_graph=True)
    torch.testing.assert_close(gradient, weight)
    (pull,) = torch.autograd.grad(terms["commitment"], h)
    torch.testing.assert_close(pull, 2 * (h - encoded.latent).detach() / h.numel())
    assert not torch.equal(vq.vq.codebook, before)


QUANTIZED = {
    "fsq": {"z_channels": 3, "levels": (5, 4, 3)},
    "lfq": {"z_channels": 6, "levels": (2,) * 6},
    "vq": {"z_channels": 3, "levels": (50,), "architecture": "separated"},  # whose export is tested with it
}


@pytest.fixture(scope="module", params=QUANTIZED)
def model(request: pytest.FixtureRequest) -> VideoTokenizer:
    return build("kl-4chn", regularizer=request.param, **QUANTIZED[request.param], **SHALLOWEST)


@torch.no_grad()
def test_tokens_alone_decode_to_the_same(model: VideoTokenizer) -> None:
    video = torch.rand(2, 3, 9, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    encoded = model.encode(video)
    assert encoded.indices.dtype == torch.int32
    assert 0 <= encoded.indices.min() <= encoded.indices.max() < model.stream.codebook_size
    assert torch.equal(model.decode(encoded.indices, 9), model.decode(encoded.latent, 9))
    assert torch.equal(model.encode(video, chunk=1).indices, encoded.indices)


@pytest.mark.parametrize(
    "model", ["lfq", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fsq", "vq"))], indirect=True
)
def test_bundles_of_every_quantizer(model: VideoTokenizer, tmp_path: Path) -> None:
    """The command measures parity itself; the runtime then gives the reference's tokens."""
    write_weights(model, tmp_path / "model.safetensors")
    done = run_export("--checkpoint", tmp_path / "model.safetensors", "--out", tmp_path / "bundle", "--quiet")
    assert done.exit_code == 0, done.output
    tok = Tokenizer(tmp_path / "bundle", provider="cpu", threads=1)
    assert [row["passed"] for row in tok.manifest.raw["parity"]["rows"]] == [True, True]
    model = build(model.config, tmp_path / "model.safetensors")
    assert tok.manifest.stream.codebook_size == model.stream.codebook_size
    video = np.random.default_rng(0).uniform(-1, 1, (9, 8, 12, 3)).astype(np.float32)
    with torch.no_grad():
        encoded = model.encode(torch.from_numpy(video).permute(3, 0, 1, 2)[None])
        recon = model.decode(encoded.indices, 9)[0].permute(1, 2, 3, 0).clamp(-1, 1)
    tokens = tok.encode(video)
    np.testing.assert_array_equal(tokens.data, encoded.indices[0])
    np.testing.assert_allclose(tok.decode(tokens, dtype="float32"), recon, atol=1e-4)


def test_levels_fit_the_regularizer() -> None:
    for name, fields in QUANTIZED.items():
        assert find_variant("kl-4chn", regularizer=name, **fields).codebook_size in (60, 64, 50)
        with pytest.raises(ModelError, match=f"levels of {name}"):
            find_variant("kl-4chn", regularizer=name, **{**fields, "levels": (8, 8)})
    with pytest.raises(ModelError, match="codes are too many"):
        find_variant("kl-4chn", regularizer="vq", levels=(2**25,))
    with pytest.raises(ModelError, match="regularizer is kl, fsq, lfq, vq"):
        find_variant("kl-4chn", regularizer="rvq")
