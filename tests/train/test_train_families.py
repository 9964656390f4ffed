"""Narrow models of every family take training steps with Muon and a GAN, in their own range of pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import NARROW
from torch import Tensor, nn
from training_runs import GAN, log_rows, tiny_recipe

from vidtok_ref import VideoTokenizer
from vidtok_ref.train.losses import Objective
from vidtok_ref.train.pixels import from_network, to_network, to_tensor
from vidtok_ref.train.run import train
from vidtok_ref.train.validate import reconstruct

CLIP = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8).repeat(3, 0).transpose(1, 2, 3, 0)


@pytest.mark.parametrize("variant", NARROW)
def test_a_step_with_a_gan(clips: Path, tmp_path: Path, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    muon = ("warmup = 1", 'warmup = 1\nname = "muon"')
    recipe = tiny_recipe(tmp_path, muon, (GAN[0], GAN[1].replace("start = 3", "start = 1")))
    recipe = replace(recipe, steps=1, model=replace(recipe.model, variant=variant, overrides=NARROW[variant]))
    encoded = recorded(monkeypatch, VideoTokenizer, "features")
    decoded = recorded(monkeypatch, VideoTokenizer, "decode")
    compared = recorded(monkeypatch, Objective, "reconstruction")
    assert train(recipe, clips, tmp_path / "run", accelerator="cpu") > 0
    [row] = log_rows(tmp_path / "run")
    assert float(row["adaptive_weight"]) > 0

    (model, given), _ = encoded[0]
    [((_, video, recon), _)] = compared
    low, high = model.stream.pixel_range
    assert -1 <= video.min() < -0.5
    assert 0.5 < video.max() <= 1
    torch.testing.assert_close(given, low + (video + 1) / 2 * (high - low))
    torch.testing.assert_close(low + (recon + 1) / 2 * (high - low), decoded[0][1])


def recorded(patch: pytest.MonkeyPatch, kind: type, name: str) -> list[tuple[tuple[Any, ...], Any]]:
    """Arguments and result of each call of a method from now on."""
    calls, method = [], getattr(kind, name)

    def call(*args: Any) -> Any:
        result = method(*args)
        calls.append((args, result))
        return result

    patch.setattr(kind, name, call)
    return calls


class Identity(nn.Module):
    """A model of other pixels that gives what it takes."""

    def __init__(self, pixel_range: tuple[float, float]) -> None:
        super().__init__()
        self.stream = self
        self.pixel_range = pixel_range

    def forward(self, video: Tensor) -> tuple[Tensor, None]:
        assert (video.min().item(), video.max().item()) == self.pixel_range
        return video, None


@pytest.mark.parametrize("pixel_range", [(-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5), (0.0, 255.0)])
def test_pixels_go_to_a_model_and_come_back(pixel_range: tuple[float, float]) -> None:
    assert np.array_equal(reconstruct(Identity(pixel_range), CLIP, torch.device("cpu")), CLIP)
    video = to_tensor(torch.from_numpy(CLIP[None]))
    torch.testing.assert_close(from_network(to_network(video, pixel_range), pixel_range), video)
    assert to_network(video, (-1.0, 1.0)) is video
