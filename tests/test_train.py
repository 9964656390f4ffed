"""The first trainer on made-up clips: it learns, resumes exactly, and says what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from vidtok_ref import ModelError, build
from vidtok_ref.train.cli import main
from vidtok_ref.train.data import load_material
from vidtok_ref.train.loop import loss_of, train
from vidtok_ref.train.recipe import RECIPES, Recipe, load_recipe
from vidtok_ref.train.start import start_from_linear
from vidtok_runtime.demo import synthetic_frame
from vidtok_runtime.video_out import VideoWriter

TINY = Recipe(
    variant="kl-4chn",
    overrides={"ch": 4, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1},
    steps=6,
    batch=1,
    frames=5,
    size=32,
    short_side=40,
    held_back=("held",),
    warmup=1,
    cooldown=2,
    validate_every=3,
    checkpoint_every=3,
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    for name, first in (("a", 0), ("held", 50)):
        with VideoWriter(folder / f"{name}.mp4") as writer:
            for i in range(12):
                writer.write(synthetic_frame(first + i, 144, 144), i)
            writer.close()
    cv2.imwrite(str(folder / "photo.png"), synthetic_frame(7, 160, 200))
    (folder / "broken.mp4").write_text("no video")
    return folder


def test_a_resumed_run_equals_an_undisturbed_one(clips: Path, tmp_path: Path) -> None:
    best = train(TINY, clips, tmp_path / "whole")
    assert best > 5
    # Killed after the checkpoint at step 3: the same recipe goes on from there.
    checkpoints = tmp_path / "killed"

    def kill(*_: object) -> None:
        if (checkpoints / "last.ckpt").is_file():
            raise KeyboardInterrupt

    handle = torch.nn.modules.module.register_module_forward_pre_hook(kill)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(TINY, clips, checkpoints)
    finally:
        handle.remove()
    train(TINY, clips, checkpoints)
    whole, resumed = (load_file(run / "best.safetensors") for run in (tmp_path / "whole", checkpoints))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_material_is_cut_as_told(clips: Path) -> None:
    material = load_material(clips, TINY)
    assert [len(x) for x in (material.videos, material.images, material.held_back)] == [1, 1, 1]
    assert material.held_back[0].shape == (12, 128, 128, 3)
    assert len(material.skipped) == 1
    assert "broken.mp4" in material.skipped[0]
    with pytest.raises(ModelError, match="held back"):
        load_material(clips, replace(TINY, held_back=()))
    (clips / "SOURCES.csv").write_text("file,note\ntrain/a.mp4,footage of doubtful licence\n")
    try:
        with pytest.raises(ModelError, match="0 clips to train on"):
            load_material(clips, replace(TINY, skip_notes=("doubtful licence",)))
    finally:
        (clips / "SOURCES.csv").unlink()


@torch.no_grad()
def test_the_linear_start_passes_signals_on() -> None:
    model = build("kl-16chn", ch=8, num_res_blocks=1)
    start_from_linear(model, -8.0)
    x = torch.randn(1, 8, 2, 8, 8)
    block = model.encoder.down[0].block[0]
    assert torch.equal(block(x), x)
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    encoded = model.encode(video)
    assert encoded.log_variance is not None
    assert encoded.log_variance.mean() < -5
    assert 0.1 < encoded.latent.std() < 3


def test_not_a_number_stops_the_run(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lower learning_rate"):
        train(replace(TINY, l2_weight=float("inf")), clips, tmp_path / "run")


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_shipped_recipes_name_models_that_learn(name: str) -> None:
    recipe = load_recipe(name)
    model = build(recipe.variant, **recipe.overrides)
    loss = loss_of(model, torch.zeros(1, 3, 1, 16, 16), recipe, 0)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert "repo licence may not cover footage" in recipe.skip_notes


def test_command_line(clips: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["no-such-recipe", "--data", str(clips), "--run", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "tiny-kl-16chn" in result.stderr
    assert len(result.stderr.splitlines()) == 1
