"""Recipes: read, checked, and as published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_runs import tiny

from vidtok_ref import build
from vidtok_ref.errors import DataError
from vidtok_ref.train.losses import Objective
from vidtok_ref.train.recipe import RECIPES, load_recipe


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("frames = 5", "frame = 5", r"\[data\] has no 'frame'; did you mean frames\?"),
        ("frames = 5", 'frames = "five"', r"\[data\] frames must be a whole number, got 'five'"),
        ("frames = 5", "frames = 5.0", "must be a whole number"),
        ("frames = 5", "frames = true", "must be a whole number"),
        ("frames = 5", "frames = 0", "at least 1"),
        ("short_side = 40", "short_side = 16", "no crop fits"),
        ("short_side = 40", "short_side = 40\nzoom = [1.0, 2.0]", "from 1 to short_side / size = 1.25, got"),
        ("short_side = 40", "short_side = 40\nzoom = [1.2, 1.1]", "two numbers, rising"),
        ("short_side = 40", "short_side = 40\ncolour = -0.1", "colour must be 0 or more"),
        ('held_out = ["held"]', 'held_out = "held"', "must be a list"),
        ('held_out = ["held"]', "held_out = [1]", "must be text"),
        ("l2 = 1.0", 'l2 = "much"', "must be a number"),
        ("batch = 2", "batch = 2\nworkers = -1", r"\[data\] workers must be 0 or more, got -1"),
        ("batch = 2", "batch = 2\nmax_clip_frames = 0", r"\[data\] max_clip_frames must be at least 1, got 0"),
        ("learning_rate = 3e-4", "learning_rate = 0", r"\[optimizer\] learning_rate must be above 0, got 0"),
        ("learning_rate = 3e-4", "learning_rate = nan", "must be above 0, got nan"),
        ("[report]", "[gan]\nlearning_rate = -1.0\n[report]", r"\[gan\] learning_rate must be above 0, got -1"),
        ("ch = 8", "ch = 8.5", r"\[model\] overrides ch must be a whole number, got 8.5"),
        ("[1, 1, 2, 2]", "4", r"overrides ch_mult must be a list, got 4"),
        ("ch = 8", "channels = 8", r"overrides has no 'channels'"),
        ("overrides = {", "overrides = 3 #", r"overrides must be a table, got 3"),
        ("warmup = 1", 'name = "sgd"', "one of adam, adamw, muon, got 'sgd'"),
        ('variant = "kl-4chn"', "", "lacks variant"),
        ("steps = 6", "", "lacks steps"),
        ("[loss]", "[losses]", "did you mean loss"),
        ("[loss]", "[loss", "line"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_recipe(str(tiny(tmp_path, (old, new))))
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


def test_whole_numbers_are_numbers_and_lists_are_tuples(tmp_path: Path) -> None:
    recipe = load_recipe(str(tiny(tmp_path, ("l2 = 1.0", "l2 = 2"))))
    assert type(recipe.loss.l2) is float
    assert recipe.model.overrides["ch_mult"] == (1, 1, 2, 2)
    assert hash(recipe.data.held_out) == hash(("held",))


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_shipped_recipes_name_models_that_learn(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.data.size % 8 == 0
    if not name.startswith("tiny"):
        return
    assert "repo licence may not cover footage" in recipe.data.skip_notes
    model = build(recipe.model.variant, **recipe.model.overrides)
    video = torch.zeros(1, 3, 1, 16, 16)
    Objective(recipe.loss).reconstruction(video, model.decode(model.encode(video).latent, 1))["l1"].backward()
    assert all(p.grad is not None for n, p in model.named_parameters())


def test_released_recipes_are_as_published() -> None:
    one, two = load_recipe("released-stage1"), load_recipe("released-stage2")
    assert (one.steps, one.data.batch, one.data.size, one.data.fps) == (50_000, 16, 128, (3.0,))
    assert (two.steps, two.data.batch, two.data.size, two.model.train) == (30_000, 8, 256, "decoder")
    for recipe in (one, two):
        assert (recipe.optimizer.name, recipe.optimizer.learning_rate, recipe.optimizer.clip_norm) == ("adam", 1e-5, 20)
        assert (recipe.loss.l1, recipe.loss.perceptual, recipe.loss.kl, recipe.loss.log_variance) == (1, 1, 1e-6, True)
        assert (recipe.gan.weight, recipe.gan.start, recipe.gan.layers, recipe.gan.lecam) == (0.2, 20_001, 3, 0.005)
        assert recipe.model.precision == "bf16-mixed"
