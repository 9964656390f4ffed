"""First weights that are solved for, and the optimizer that goes on from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from narrow import NARROW as WIDTHS
from narrow import narrow
from torch import Tensor, nn
from training_runs import tiny_recipe

from vidtok_ref import VideoTokenizer, build
from vidtok_ref.errors import VariantError
from vidtok_ref.families.vidtok.linear_start import Goal, start_from_linear
from vidtok_ref.layers.blocks import SpatialBlock
from vidtok_ref.layers.norm import LayerNorm
from vidtok_ref.train.muon import Muon, orthogonalise
from vidtok_ref.train.optimizer import make_optimizer

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


def muon_of(model: VideoTokenizer, folder: Path) -> list[list[str]]:
    """Names of the parameters that Muon takes, and of those that it leaves to Adam."""
    recipe = tiny_recipe(folder, ("warmup = 1", 'warmup = 1\nname = "muon"'))
    names = {p: n for n, p in model.named_parameters()}
    groups = make_optimizer(model, nn.Identity(), recipe).param_groups
    assert [group["hidden"] for group in groups] == [True, False]
    return [[names[p] for p in group["params"]] for group in groups]


@pytest.mark.parametrize(
    ("variant", "overrides"),
    [
        *((name, {}) for name in ("kl-4chn", "fsq-32768-v1.1", "kl-4chn-noncausal", "fsq-262144-4x16x16")),
        *(("kl-4chn", {"architecture": name}) for name in ("3d", "separated", "2d")),
    ],
)
def test_muon_leaves_ends_and_vectors_to_adam(variant: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    model = build(variant, ch=4, num_res_blocks=1, **overrides)

    def left(name: str, parameter: Tensor) -> bool:
        return "encoder.conv_in." in name or ".conv_out." in name or parameter.ndim == 1

    # In the order of the model, by which a run that is resumed finds the momentum of each.
    hidden = [n for n, p in model.named_parameters() if not left(n, p)]
    assert muon_of(model, tmp_path) == [hidden, [n for n, p in model.named_parameters() if left(n, p)]]


def test_what_learns_first_and_last(tmp_path: Path) -> None:
    """What Muon leaves to Adam beside biases and the gains of norms, and what the weight of a GAN follows."""
    ends = {
        "cogvideox": "encoder.conv_in.conv encoder.conv_out.conv decoder.conv_out.conv",
        "cosmos-cv-4x8x8": "encoder.conv_in.space encoder.quant_conv decoder.conv_out.time",
        "cosmos-dv-4x8x8": "encoder.conv_in.space encoder.quant_conv decoder.conv_out.time",
        "cv-vae": "encoder.conv_in encoder.conv_out decoder.conv_out",
        "fsq-32768": "encoder.conv_in.conv encoder.conv_out.conv decoder.conv_out.conv",
        "magvit2-open": "encoder.conv_in encoder.conv_out decoder.conv_out",
        "omnitokenizer": "encoder.embedding.first.linear encoder.embedding.others.linear encoder.pre_vq.linear "
        "decoder.pixels.first.linear decoder.pixels.others.linear",
        "open-sora-1.2": "encoder.space.conv_in encoder.time.quant_conv decoder.space.conv_out",
        "open-sora-plan-1.2": "encoder.conv_in encoder.quant_conv decoder.conv_out",
        "taehv": "encoder.0 encoder.8 decoder.12",
        "wan-2.2": "encoder.conv_in.conv encoder.quant_conv decoder.head.conv.conv",
    }
    assert ends.keys() == WIDTHS.keys()
    for variant, names in ends.items():
        model = narrow(variant)
        matrices = {n for n, p in model.named_parameters() if p.squeeze().ndim > 1}
        found = matrices & {*muon_of(model, tmp_path)[1]}
        assert found == {f"{name}.weight" for name in names.split()}, variant
        last = {n for n, p in model.named_parameters() if any(p is w for w in model.decoder.last_weights())}
        assert last == {name for name in found if name.startswith("decoder.")}, variant


def test_vectors_move_as_adam_moves_them() -> None:
    vector = nn.Parameter(torch.tensor([1.0, -2.0]))
    twin = nn.Parameter(vector.detach().clone())
    ours, adam = Muon([vector], [], 0.1, (0.9, 0.99), 0.95), torch.optim.Adam([twin], 0.1, (0.9, 0.99))
    for i in range(5):
        for parameter, steps in ((vector, ours), (twin, adam)):
            parameter.grad = torch.tensor([i - 2.0, 3.0])
            steps.step()
    torch.testing.assert_close(vector, twin)


def test_muon_goes_on_from_its_saved_state() -> None:
    def run(split: int | None) -> Tensor:
        weight = nn.Parameter(torch.eye(4, 6).view(4, 2, 3))
        optimizer = Muon([weight], [], 0.1, (0.9, 0.99), 0.95)
        for i in range(4):
            if i == split:
                saved = optimizer.state_dict()
                optimizer = Muon([weight], [], 0.1, (0.9, 0.99), 0.95)
                optimizer.load_state_dict(saved)
            before = weight.detach().clone()
            weight.grad = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(i))
            optimizer.step()
            size = (weight - before).square().mean().sqrt()
            assert 0.01 < size < 0.03  # 0.2 of the learning rate
        return weight.detach()

    assert torch.equal(run(None), run(2))
