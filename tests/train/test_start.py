"""First weights that are solved for, and the optimizer that goes on from them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidtok_ref import build
from vidtok_ref.errors import VariantError
from vidtok_ref.families.vidtok.linear_start import Goal, start_from_linear
from vidtok_ref.layers.blocks import SpatialBlock
from vidtok_ref.layers.norm import LayerNorm
from vidtok_ref.train.muon import Muon, orthogonalise

NARROW = {"ch": 8, "ch_mult": (1, 2, 3, 4), "num_res_blocks": 1}


@pytest.fixture(scope="module")
def video() -> Tensor:
    """Smooth coloured noise that drifts: `34 3 9 32 32` in -1..1."""
    seeded = torch.Generator().manual_seed(0)
    coarse = torch.randn(34, 3, 3, 3, 3, generator=seeded)
    return F.interpolate(coarse, (9, 32, 32), mode="trilinear").tanh()


def error(model: nn.Module, video: Tensor) -> Tensor:
    """Mean square error of every colour, in units of its mean square."""
    axes = (0, 2, 3, 4)
    return (model(video)[0] - video).square().mean(axes) / video.square().mean(axes)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["fsq-4096", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kl-4chn", "kl-4chn-noncausal"))]
)
def test_the_linear_start_brings_every_colour_back(name: str, video: Tensor) -> None:
    if name.endswith("noncausal"):
        video = video[:, :, :8]
    model = build(name, **NARROW)
    start_from_linear(model, video[:32], -8.0)
    assert error(model, video[:32]).max() < 0.3  # grey pictures: about 1
    assert error(model, video[32:]).max() < 0.45  # clips that it has not seen
    encoded = model.encode(video[32:])
    assert 0.3 < encoded.latent.std() < 3
    if encoded.log_variance is not None:
        assert -9 < encoded.log_variance.mean() < -7
    block = model.encoder.down[0].block[0]
    assert isinstance(block, SpatialBlock)
    x = torch.randn(1, 8, 2, 8, 8)
    assert torch.equal(block(x), x)


@pytest.mark.slow
def test_a_learned_codebook_starts_where_the_tokens_are(video: Tensor) -> None:
    model = build("fsq-4096", regularizer="vq", levels=(256,), **NARROW)
    start_from_linear(model, video[:32], -8.0)
    with torch.no_grad():
        before = error(model, video[:32]).max()
        assert before < 0.45
        h = model.features(video[:32])
        for _ in range(3):
            model.train().regularization.regularize(h)
        assert error(model.eval(), video[:32]).max() < 1.2 * before


def test_everything_learns_from_the_linear_start(video: Tensor) -> None:
    model = build("kl-4chn", **NARROW)
    start_from_linear(model, video[:4], -8.0)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(2):  # what follows a silent layer moves first
        optimizer.zero_grad()
        recon, encoded = model(video[:4])
        assert encoded.log_variance is not None
        ((recon - video[:4]).square().mean() + encoded.log_variance.square().mean()).backward()
        optimizer.step()
    # Keys of an attention over pixels have no gradient in their bias: it shifts all scores alike.
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in still if not n.endswith("attn_1.k.conv.bias")] == []


@torch.no_grad()
def test_pairs_pass_through_norm_and_activation(video: Tensor) -> None:
    goal = Goal(video[:, :, :8])
    goal.time, goal.space = 4, 8
    held = goal.in_pairs(4, 12)
    assert held.shape == (34, 12, 2, 4, 4)
    y = F.silu(LayerNorm(12)(held))
    ratio = (y[:, :4] - y[:, 4:8]) / held[:, :4]
    assert ratio.std() < 0.05 * ratio.mean()
    with pytest.raises(VariantError, match="needs 10 channels"):
        goal.in_pairs(4, 9)


def test_where_the_linear_start_cannot_be(video: Tensor) -> None:
    for other in (build("kl-4chn-v1.1", **NARROW), build("kl-4chn", architecture="separated", **NARROW)):
        with pytest.raises(VariantError, match='give `start = "random"`'):
            start_from_linear(other, video, -8.0)
    with pytest.raises(VariantError, match="needs 34 channels in front of an output, got 32"):
        start_from_linear(build("kl-16chn", **NARROW), video, -8.0)


def test_orthogonalised_matrices_keep_their_directions() -> None:
    for shape in ((3, 8, 20), (2, 20, 8)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        y = orthogonalise(x)
        assert y.shape == x.shape
        sizes = torch.linalg.svdvals(y)
        assert sizes.min() > 0.6
        assert sizes.max() < 1.3
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        inside = u.mT @ y @ v.mT
        assert (inside - torch.diag_embed(torch.diagonal(inside, dim1=-2, dim2=-1))).abs().max() < 1e-3


def test_muon_leaves_ends_and_vectors_to_adam() -> None:
    model = build("kl-4chn", **NARROW)
    optimizer = Muon(model.named_parameters(), 1e-3, (0.9, 0.99), 0.95)
    hidden, other = optimizer.param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    others = {names[id(p)] for p in other["params"]}
    assert {n for n in others if n.endswith("weight") and "norm" not in n} == {
        "encoder.conv_in.conv.weight",
        "encoder.conv_out.conv.weight",
        "decoder.conv_out.conv.weight",
    }
    assert len(hidden["params"]) + len(other["params"]) == len(names)

    vector = nn.Parameter(torch.tensor([1.0, -2.0]))
    twin = nn.Parameter(vector.detach().clone())
    ours, adam = Muon([("bias", vector)], 0.1, (0.9, 0.99), 0.95), torch.optim.Adam([twin], 0.1, (0.9, 0.99))
    for i in range(5):
        for parameter, steps in ((vector, ours), (twin, adam)):
            parameter.grad = torch.tensor([i - 2.0, 3.0])
            steps.step()
    torch.testing.assert_close(vector, twin)


def test_muon_goes_on_from_its_saved_state() -> None:
    def run(split: int | None) -> Tensor:
        weight = nn.Parameter(torch.eye(4, 6).view(4, 2, 3))
        optimizer = Muon([("hidden.weight", weight)], 0.1, (0.9, 0.99), 0.95)
        for i in range(4):
            if i == split:
                saved = optimizer.state_dict()
                optimizer = Muon([("hidden.weight", weight)], 0.1, (0.9, 0.99), 0.95)
                optimizer.load_state_dict(saved)
            before = weight.detach().clone()
            weight.grad = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(i))
            optimizer.step()
            size = (weight - before).square().mean().sqrt()
            assert 0.01 < size < 0.03  # 0.2 of the learning rate
        return weight.detach()

    assert torch.equal(run(None), run(2))
