"""Losses, regularizer terms and GAN against what is worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from vidtok_ref.regularizers.channel import FiniteScalarQuantizer
from vidtok_ref.train.gan import Discriminator, adaptive_weight, hinge, lecam, non_saturating
from vidtok_ref.train.losses import Objective, entropy_weight, gradient_error, log_error, texture_error
from vidtok_ref.train.recipe import GanPart, LossPart
from vidtok_ref.train.usage import MEMORY, UsageLoss


def test_reconstruction_terms_by_hand() -> None:
    video, recon = torch.zeros(2, 3, 2, 4, 4), torch.zeros(2, 3, 2, 4, 4)
    recon[0], recon[1] = 0.1, 0.5
    part = LossPart(l1=1, l2=2, psnr=0.5, perceptual=3)
    terms = Objective(part, Brightness()).reconstruction(video, recon)
    assert {k: round(v.item(), 4) for k, v in terms.items()} == {
        "l1": 0.3,
        "l2": 0.13,
        "perceptual": 0.3,
        "psnr": round((10 * math.log10(0.01 + 1e-6) + 10 * math.log10(0.25 + 1e-6)) / 2, 4),
    }
    total = Objective(part, Brightness()).likelihood(terms, video)
    assert total.item() == pytest.approx(0.3 + 2 * 0.13 + 3 * 0.3 + 0.5 * terms["psnr"].item(), rel=1e-5)
    assert log_error(torch.zeros(1, 3)).item() == pytest.approx(-60)


def test_gradients_by_hand() -> None:
    ramp = 0.1 * torch.arange(8.0).expand(1, 3, 2, 8, 8)
    assert gradient_error(ramp).item() == pytest.approx((0.1 + 0.2 + 0.4) / 6)
    assert gradient_error(ramp.transpose(-1, -2) + 0.3).item() == pytest.approx((0.1 + 0.2 + 0.4) / 6)
    fine = 0.1 * (torch.arange(8.0) % 2).expand(1, 3, 2, 8, 8)  # gone at half the resolution
    assert gradient_error(fine).item() == pytest.approx(0.1 / 6)
    objective = Objective(LossPart(l1=0, gradient=2))
    terms = objective.reconstruction(torch.zeros_like(ramp), ramp)
    assert list(terms) == ["gradient"]
    assert objective.likelihood(terms, ramp).item() == pytest.approx(2 * 0.7 / 6)


def test_texture_by_hand() -> None:
    stripes = 0.1 * (torch.arange(16.0) % 2).expand(1, 3, 2, 16, 16)
    assert texture_error(stripes, stripes.roll(1, -1)).item() == pytest.approx(0, abs=1e-6)  # as much, one pixel on
    assert texture_error(stripes, torch.zeros_like(stripes)).item() == pytest.approx(0.1 / 6)
    terms = Objective(LossPart(l1=0, texture=3)).reconstruction(torch.zeros_like(stripes), stripes)
    assert {name: term.item() for name, term in terms.items()} == {"texture": pytest.approx(0.1 / 6)}


class Brightness(torch.nn.Module):
    """A stand-in for LPIPS: distance of the mean brightness of frames `N 3 H W`."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.shape == b.shape
        assert a.shape[1] == 3
        return (a - b).abs().mean((1, 2, 3))


def test_the_log_variance_settles_at_the_log_of_the_error() -> None:
    video = torch.zeros(1, 3, 2, 4, 4)
    for per, scale in (("number", 1), ("frame", 3 * 4 * 4)):
        objective = Objective(LossPart(log_variance=True, per=per))  # type: ignore[arg-type]
        terms = objective.reconstruction(video, video + 0.2)
        with torch.no_grad():
            objective.log_variance.fill_(-0.5)  # type: ignore[union-attr]
        loss = objective.likelihood(terms, video)
        loss.backward()
        assert loss.item() == pytest.approx(scale * (0.2 * math.exp(0.5) - 0.5), rel=1e-5)
        assert objective.log_variance.grad.item() == pytest.approx(scale * (1 - 0.2 * math.exp(0.5)), rel=1e-5)  # type: ignore[union-attr]
    descent = torch.optim.SGD(objective.parameters(), lr=0.01)
    for _ in range(200):
        descent.zero_grad()
        objective.likelihood(terms, video).backward()
        descent.step()
    assert math.exp(objective.log_variance.item()) == pytest.approx(0.2, rel=1e-3)  # type: ignore[union-attr]


def test_regularizer_terms_are_weighted_and_annealed() -> None:
    part = LossPart(kl=1e-3, entropy=0.1, commitment=0.25)
    assert [entropy_weight(part, step) for step in (0, 1000, 2000, 9000)] == pytest.approx([0.3, 0.2, 0.1, 0.1])
    video = torch.zeros(1, 3, 2, 4, 4)
    terms = {"kl": torch.tensor(960.0), "entropy": torch.tensor(-2.0), "commitment": torch.tensor(4.0)}
    total = Objective(part).regularization(terms, video, 1000)
    assert total.item() == pytest.approx(1e-3 * 960 / 96 - 0.4 + 1)
    used = Objective(replace(part, usage=0.5)).regularization({"usage": torch.tensor(-3.0)}, video, 0)
    assert used.item() == pytest.approx(-1.5)
    total = Objective(replace(part, per="frame")).regularization({"kl": terms["kl"]}, video, 0)
    assert total.item() == pytest.approx(0.96)
    endless = {"kl": torch.tensor(torch.inf), "commitment": terms["commitment"]}
    assert Objective(replace(part, kl=0)).regularization(endless, video, 0).item() == pytest.approx(1)


E2 = math.exp(-2)


def test_usage_is_minus_the_entropy_of_the_codes() -> None:
    quantizer = FiniteScalarQuantizer((4, 2, 8))
    usage = UsageLoss(quantizer)
    everywhere = quantizer.from_indices(torch.arange(64)[None, None, None]) * quantizer._middle(torch.empty(1))
    # Ends of a channel have one neighbour, so that the use is even but for a small share.
    assert usage(everywhere).item() == pytest.approx(-math.log(64), abs=0.02)
    assert usage.seen.sum().item() == pytest.approx(1)
    one_code = torch.zeros(1, 3, 1, 1, 5)
    values = [usage(one_code).item() for _ in range(3 * round(1 / (1 - MEMORY)))]
    assert values == sorted(values)  # the more often it was seen, the dearer
    spread = [[1, E2, E2], [1, E2], [1, E2, E2]]  # of one token over its cell and its neighbours, in each channel
    own = sum(p / sum(ps) * math.log(p / sum(ps)) for ps in spread for p in ps)
    assert values[-1] == pytest.approx(own, abs=0.1)


def test_usage_spreads_levels_that_the_released_entropy_leaves_alone() -> None:
    quantizer = FiniteScalarQuantizer((8, 8))
    torch.manual_seed(0)
    normal = 0.3 * torch.randn(1, 2, 1, 40, 40)  # signs are even, outer levels nearly empty

    def codes_after(term: str) -> int:
        scale = torch.ones(1, 2, 1, 1, 1, requires_grad=True)
        usage, descent = UsageLoss(quantizer), torch.optim.Adam([scale], lr=0.02)
        for _ in range(100):
            h = normal * scale
            loss = usage(quantizer.bound(h)) if term == "usage" else quantizer.regularize(h)[1]["entropy"]
            descent.zero_grad()
            loss.backward()
            descent.step()
        return quantizer(normal * scale.detach()).indices.unique().numel()  # type: ignore[union-attr]

    assert codes_after("entropy") < codes_after("usage") == 64


def test_gan_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 1.0])
    assert hinge(real, fake).item() == pytest.approx(0.5 * ((0 + 1) / 2 + (0 + 2) / 2))
    assert non_saturating(fake).item() == pytest.approx((math.log1p(math.exp(3)) + math.log1p(math.exp(-1))) / 2)
    levels = torch.tensor(0.5), torch.tensor(-1.0)
    # Real logits above the fakes' level by 3 and 1; the reals' level above fake logits by 3.5, and below by 0.5.
    assert lecam(real, fake, *levels).item() == pytest.approx((9 + 1) / 2 + 3.5**2 / 2)
    one, two = torch.tensor([3.0, 4.0]), [torch.tensor([0.0, 3.0]), torch.tensor(4.0)]
    assert adaptive_weight([one], [torch.tensor([0.0, 2.0])]).item() == pytest.approx(2.5, rel=1e-3)
    assert adaptive_weight(two, [one]).item() == pytest.approx(1, rel=1e-3)
    assert adaptive_weight([torch.tensor([1e9])], [torch.tensor([0.0])]).item() == 1e4


def test_the_discriminator_remembers_mean_logits() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(GanPart(weight=1, width=4))
    frames = torch.rand(2, 3, 32, 32)
    assert discriminator(frames).shape == (2, 1, 2, 2)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in discriminator.modules()) == 5
    torch.testing.assert_close(discriminator(frames)[:1], discriminator(frames[:1]))
    mean = discriminator(frames).mean().item()
    discriminator.loss(frames, -frames, lambda x: x)
    assert discriminator.real_level.item() == pytest.approx(mean / 1000, rel=1e-4)
