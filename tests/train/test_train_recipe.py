"""Recipes: read, checked, and as published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import tiny, tiny_recipe

from vidtok_ref import build
from vidtok_ref.errors import DataError
from vidtok_ref.train.losses import Objective
from vidtok_ref.train.recipe import RECIPES, Recipe, load_recipe


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
        ("learning_rate = 3e-4", "learning_rate = nan", "must be a finite number, got nan"),
        ("learning_rate = 3e-4", "betas = [1.5, 0.9]", "betas must be at least 0 and below 1, got 1.5, 0.9"),
        ("learning_rate = 3e-4", "clip_norm = 0", r"\[optimizer\] clip_norm must be above 0"),
        ("learning_rate = 3e-4", "weight_decay = -1", r"\[optimizer\] weight_decay must be 0 or more, got -1"),
        ("ema = 0.995", "ema = 1.0", r"\[model\] ema must be at least 0 and below 1, got 1.0"),
        ("steps = 6", "steps = 6\nseed = -1", "seed must be 0 or more, got -1"),
        ("steps = 6", "steps = 6\nseed = 99999999999999999999", "seed must be below 2"),
        ("short_side = 40", "short_side = 40\nimage_share = 1.5", "image_share must be 0 to 1, got 1.5"),
        ("[report]", "[gan]\nweight = 1\nlayers = 4\n[report]", "layers 4 need frames of 48 pixels, size is 32"),
        ("[report]", "[gan]\nwidth = 0\n[report]", r"\[gan\] width must be at least 1, got 0"),
        ("[report]", "[report]\npictures = -1", r"\[report\] pictures must be 0 or more, got -1"),
        ("[report]", "[gan]\nlearning_rate = -1.0\n[report]", r"\[gan\] learning_rate must be above 0, got -1"),
        ("ch = 8", "ch = 8.5", r"\[model\] overrides ch must be a whole number, got 8.5"),
        ("[1, 1, 2, 2]", "4", r"overrides ch_mult must be a list, got 4"),
        ("ch = 8", "channels = 8", r"overrides has no 'channels'"),
        ("ch = 8", 'kind = "kl"', r"overrides has no 'kind'"),
        ("overrides = {", "overrides = 3 #", r"overrides must be a table, got 3"),
        ("warmup = 1", 'name = "sgd"', "one of adam, adamw, muon, got 'sgd'"),
        ('variant = "kl-4chn"', "", "lacks variant"),
        ("steps = 6", "", "lacks steps"),
        ("[loss]", "[losses]", "did you mean loss"),
        ("[loss]", "[loss", "line"),
        ("[report]", "[stage]\nsteps = 3\n[report]", r"stages of a recipe are tables: \[\[stage\]\]"),
        ("[report]", "[[stage]]\nstep = 3\n[report]", "did you mean steps"),
        ("[report]", "[[stage]]\ndata = { frames = 0 }\n[report]", r"\[data\] frames must be at least 1, got 0"),
    ],
)
def test_a_wrong_recipe_is_one_clear_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        tiny_recipe(tmp_path, (old, new))
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


def test_whole_numbers_are_numbers_and_lists_are_tuples(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, ("l2 = 1.0", "l2 = 2"))
    assert type(recipe.loss.l2) is float
    assert recipe.model.overrides["ch_mult"] == (1, 1, 2, 2)
    assert hash(recipe.data.held_out) == hash(("held",))


def test_fields_that_may_be_none_are_overridden_like_others(tmp_path: Path) -> None:
    wan, rest = ("kl-4chn", "wan-2.2"), "ch_mult = [1, 1, 2, 2], num_res_blocks = 1"
    overrides = tiny_recipe(tmp_path, wan, (rest, "decoder_ch = 8, latent_mean = [0, 0.5]")).model.overrides
    assert overrides == {"ch": 8, "decoder_ch": 8, "latent_mean": (0.0, 0.5)}
    with pytest.raises(DataError, match=r"overrides decoder_ch must be a whole number, got 8\.5"):
        tiny_recipe(tmp_path, wan, (rest, "decoder_ch = 8.5"))


STAGES = """
[[stage]]
[[stage]]
steps = 4
seed = 1
loss = { l2 = 0.5 }
[[stage]]
data = { frames = 9 }
"""


def test_a_stage_changes_what_it_says_and_keeps_the_rest(tmp_path: Path) -> None:
    linear = ("ema = 0.995", 'ema = 0.995\nstart = "linear"\ninit = "somewhere"')
    end = ("checkpoint_every = 3\n", "checkpoint_every = 3\n" + STAGES)
    first, second, third = load_recipe(str(tiny(tmp_path, linear, end)))
    assert first == tiny_recipe(tmp_path, linear)
    assert second == replace(
        first,
        steps=4,
        seed=1,
        loss=replace(first.loss, l2=0.5),
        model=replace(first.model, start="random", init=""),
    )
    assert third == replace(second, data=replace(second.data, frames=9))


def shipped_stages() -> list[Any]:
    return [
        pytest.param(name, stage, id=f"{name}-{number}")
        for name in sorted(path.stem for path in RECIPES.glob("*.toml"))
        for number, stage in enumerate(load_recipe(name), 1)
    ]


@pytest.mark.parametrize(("name", "recipe"), shipped_stages())
def test_shipped_recipes_name_models_that_learn(name: str, recipe: Recipe) -> None:
    assert recipe.data.size % 8 == 0
    if not name.startswith(("tiny", "ablation")):
        return
    assert "repo licence may not cover footage" in recipe.data.skip_notes
    model = build(recipe.model.variant, **recipe.model.overrides)
    video = torch.zeros(1, 3, 1, 16, 16)
    Objective(recipe.loss).reconstruction(video, model.decode(model.encode(video).latent, 1))["l1"].backward()
    assert all(p.grad is not None for n, p in model.named_parameters())


def test_released_recipes_are_as_published() -> None:
    [one], [two] = load_recipe("released-stage1"), load_recipe("released-stage2")
    assert (one.steps, one.data.batch, one.data.size, one.data.fps) == (50_000, 16, 128, (3.0,))
    assert (two.steps, two.data.batch, two.data.size, two.model.train) == (30_000, 8, 256, "decoder")
    for recipe in (one, two):
        assert (recipe.optimizer.name, recipe.optimizer.learning_rate, recipe.optimizer.clip_norm) == ("adam", 1e-5, 20)
        assert (recipe.loss.l1, recipe.loss.perceptual, recipe.loss.kl, recipe.loss.log_variance) == (1, 1, 1e-6, True)
        assert (recipe.gan.weight, recipe.gan.start, recipe.gan.layers, recipe.gan.lecam) == (0.2, 20_001, 3, 0.005)
        assert recipe.model.precision == "bf16-mixed"
