"""The mechanics of the trainer: noise, average, schedule, recomputation, PSNR."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import cast
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_runs import tiny_recipe

from vidtok_ref import build
from vidtok_ref.layers.blocks import TimeBlock
from vidtok_ref.layers.conv import FrameConv2d, TimeConv1d, TimeConv3d
from vidtok_ref.regularizers.base import Encoded
from vidtok_ref.train.average import update_average
from vidtok_ref.train.halves import convolve_halves
from vidtok_ref.train.module import sample_latent
from vidtok_ref.train.norms import widen_narrow_norms
from vidtok_ref.train.optimizer import learning_rate, make_optimizer
from vidtok_ref.train.pixels import to_tensor
from vidtok_ref.train.recompute import recompute_blocks
from vidtok_ref.train.run import train
from vidtok_ref.train.validate import psnr

NARROW = {"ch": 4, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1}


def test_noise_depends_on_the_sample_alone() -> None:
    encoded = Encoded(torch.zeros(3, 2, 2, 4, 4), log_variance=torch.zeros(3, 2, 2, 4, 4))
    drawn = sample_latent(encoded, 5, [10, 11, 12])
    one = Encoded(encoded.latent[:1], log_variance=encoded.log_variance[:1])  # type: ignore[index]
    assert torch.equal(sample_latent(one, 5, [11])[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(sample_latent(one, 6, [11])[0], drawn[1])
    assert 0.8 < drawn.std() < 1.2


def test_the_average_follows_by_its_decay() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("seen", torch.zeros(1))
    average = copy.deepcopy(model).requires_grad_(False)
    before = average.weight.clone()
    with torch.no_grad():
        model.weight += 1
        model.seen += 7
    update_average(average, model, 0.9, 1)  # (1 + 1) / (10 + 1) is below 0.9
    torch.testing.assert_close(average.weight, before + 1 - 2 / 11)
    assert average.seen.item() == 7
    before = average.weight.clone()
    update_average(average, model, 0.9, 10_000)
    torch.testing.assert_close(average.weight, 0.9 * before + 0.1 * model.weight.detach())


def test_learning_rate_rises_holds_and_falls(tmp_path: Path) -> None:
    rising = (("warmup = 1", "warmup = 4"), ("learning_rate = 3e-4", "learning_rate = 1.0"))
    recipe = tiny_recipe(tmp_path, *rising, ("steps = 6", "steps = 10"))
    assert [learning_rate(recipe, s) for s in (0, 3, 7, 8, 9)] == pytest.approx([0.25, 1, 1, 1, 0.5])
    cosine = replace(recipe, optimizer=replace(recipe.optimizer, fall="cosine", cooldown=4))
    assert [learning_rate(cosine, s) for s in (6, 7, 8)] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5])
    flat = replace(recipe, optimizer=replace(recipe.optimizer, warmup=0, cooldown=0))
    assert [learning_rate(flat, s) for s in (0, 9)] == [1, 1]
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = make_optimizer(model, nn.Identity(), recipe).param_groups
    assert group["params"] == [model.weight]


@pytest.mark.parametrize("variant", ["kl-4chn", "kl-4chn-v1.1", "fsq-262144-noncausal"])
def test_recomputed_blocks_give_equal_gradients(variant: str) -> None:
    plain = build(variant, **NARROW)
    lean = copy.deepcopy(plain)
    recompute_blocks(lean)
    assert lean.state_dict().keys() == plain.state_dict().keys()
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    next(m for m in lean.modules() if isinstance(m, TimeBlock)).norm1.register_forward_hook(count)
    video = torch.rand(1, 3, 8, 16, 16) * 2 - 1
    for model in (plain, lean):
        model(video)[0].square().mean().backward()
    assert runs == 2
    for (name, one), (_, other) in zip(plain.named_parameters(), lean.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [9, 8])
@pytest.mark.parametrize(
    ("variant", "overrides"),
    [("kl-4chn", {}), ("kl-4chn-v1.1", {}), ("kl-4chn-noncausal", {}), ("kl-4chn", {"architecture": "3d"})],
)
def test_one_clip_in_halves_gives_the_same(variant: str, overrides: dict[str, str], frames: int) -> None:
    whole = build(variant, **NARROW, **overrides).double()
    halves = copy.deepcopy(whole)
    convolve_halves(halves)
    video = torch.linspace(-1, 1, 3 * frames * 256, dtype=torch.float64).reshape(1, 3, frames, 16, 16)
    clips: list[int] = []
    real, functional = torch.nn.functional.conv3d, "torch.nn.functional.conv3d"
    with patch(functional, lambda x, *args, **kwargs: (clips.append(len(x)), real(x, *args, **kwargs))[1]):
        for model in (whole, halves):
            model(video)[0].square().mean().backward()
    assert set(clips[: len(clips) // 2]) == {1}
    assert clips[len(clips) // 2 :].count(2) > 4
    for (name, one), (_, other) in zip(whole.named_parameters(), halves.named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=lambda m, n=name: f"{n}: {m}")


def test_narrow_norms_in_bf16_are_those_in_float32() -> None:
    model = build("kl-4chn", **NARROW)
    widened = copy.deepcopy(model)
    widen_narrow_norms(widened)
    narrow, widened_narrow = (m.get_submodule("encoder.down.0.block.0.norm1") for m in (model, widened))
    for norm in (narrow, widened_narrow):
        norm.norm.weight.data = torch.linspace(0.5, 2, 4)
    x = torch.linspace(-1, 3, 4 * 3 * 16).sin().reshape(1, 4, 3, 4, 4).bfloat16().requires_grad_()
    seen: list[torch.dtype] = []
    real, functional = torch.nn.functional.layer_norm, "torch.nn.functional.layer_norm"
    with (
        torch.autocast("cpu", torch.bfloat16),
        patch(functional, lambda x, *args, **kwargs: (seen.append(x.dtype), real(x, *args, **kwargs))[1]),
    ):
        result = widened_narrow(x)
    assert seen == [torch.float32]
    assert result.dtype == torch.bfloat16
    result.float().square().sum().backward()
    gain = widened_narrow.norm.weight.grad
    exact = narrow(x.detach().float())
    torch.testing.assert_close(result.float(), exact, rtol=2**-8, atol=1e-3)
    exact.square().sum().backward()
    torch.testing.assert_close(gain, narrow.norm.weight.grad, rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize(("variant", "frames"), [("kl-4chn", 5), ("kl-4chn-noncausal", 4)])
def test_frames_stay_channels_last_through_a_step(clips: Path, tmp_path: Path, variant: str, frames: int) -> None:
    changes = (
        ("kl-4chn", variant),
        ("batch = 2\nframes = 5", f"batch = 2\nframes = {frames}"),
        ("steps = 6", "steps = 1"),
    )
    last: list[bool] = []  # of two clips: one goes to a loop of its own, channels first

    def look(module: nn.Module, _: object, y: object) -> None:
        if module.training and isinstance(module, TimeConv3d | FrameConv2d | TimeConv1d):
            last.append(cast(Tensor, y).is_contiguous(memory_format=torch.channels_last_3d))

    hook = nn.modules.module.register_module_forward_hook(look)
    try:
        train(tiny_recipe(tmp_path, *changes), clips, tmp_path / "run", accelerator="cpu")
    finally:
        hook.remove()
    assert len(last) > 20
    assert all(last)


def test_psnr_of_pixels() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 16) == pytest.approx(20 * math.log10(255 / 16))
    assert 90 < psnr(black, black) < 110
    clip = torch.full((1, 2, 4, 4, 3), 255, dtype=torch.uint8)
    assert to_tensor(clip).shape == (1, 3, 2, 4, 4)
    assert to_tensor(clip).max() == 1
