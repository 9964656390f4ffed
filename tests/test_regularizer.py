"""Regularizers: tokens and codes, straight-through gradients, and the terms of their losses."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vidtok_ref.entropy import entropy_gap
from vidtok_ref.regularizer import (
    ChannelQuantizer,
    DiagonalGaussian,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    utilization,
)

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
    assert quantizer.miss(h, own).max() == 0
    other = (own + 1) % torch.tensor(quantizer.levels).prod()
    assert quantizer.miss(h, other).min() > 0
    # The next digit of channel 0, where there is one, begins half a digit above the own one.
    digit = own % quantizer.levels[0]
    inner = digit < quantizer.levels[0] - 1
    bounded = quantizer.bound(h)[:, 0].clamp(min=-quantizer.half[0])  # below the lowest digit lies nothing
    above = digit - quantizer.half[0] + 0.5 - bounded
    torch.testing.assert_close(quantizer.miss(h, own + 1)[inner], above[inner], atol=1e-5, rtol=0)


def test_gradients_go_straight_through() -> None:
    h = features(3).requires_grad_()
    for quantizer in BY_CHANNEL[:2]:
        encoded, terms = quantizer.regularize(h)
        assert torch.equal(encoded.latent, quantizer(h.detach()).latent)
        assert set(terms) == {"entropy", "commitment"}
        weight = torch.randn_like(h)
        (gradient,) = torch.autograd.grad((encoded.latent * weight).sum(), h, retain_graph=True)
        (bounded,) = torch.autograd.grad((quantizer.bound(h) * weight).sum(), h)
        torch.testing.assert_close(gradient, bounded / quantizer._half(h))
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
