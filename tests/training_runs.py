"""A tiny recipe, and what the tests of training have in common."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from vidtok_ref.train.recipe import Recipe, load_recipe

TINY = """
steps = 6
[model]
variant = "kl-4chn"
overrides = { ch = 8, ch_mult = [1, 1, 2, 2], num_res_blocks = 1 }
ema = 0.995
[data]
batch = 2
frames = 5
size = 32
short_side = 40
held_out = ["held"]
held_out_frames = 5
held_out_size = 32
[optimizer]
learning_rate = 3e-4
warmup = 1
cooldown = 2
[loss]
l2 = 1.0
[report]
log_every = 1
validate_every = 3
checkpoint_every = 3
"""


# Solving for first weights takes twice as long as the steps from them.
LINEAR = ("ema = 0.995", 'start = "linear"\nema = 0.995')
GAN = ("[report]", "[gan]\nweight = 0.2\nstart = 3\nwidth = 4\n[report]")


def tiny(folder: Path, *changes: tuple[str, str]) -> Path:
    """A recipe file with some of its text replaced, or lines added behind a section's head."""
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"recipe-{abs(hash(text))}.toml"
    path.write_text(text)
    return path


def tiny_recipe(folder: Path, *changes: tuple[str, str]) -> Recipe:
    """The only stage of such a recipe."""
    [recipe] = load_recipe(str(tiny(folder, *changes)))
    return recipe


def last_state(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    return state


def same_run(one: Path, other: Path) -> bool:
    """Best weights and everything in the last checkpoint are equal to the bit."""
    pairs = [(last_state(run), load_file(run / "best.safetensors")) for run in (one, other)]
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in zip(*pairs, strict=True)
    )


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def command(recipe: Path, clips: Path, run: Path, *more: str) -> list[str]:
    arguments = ["--data", str(clips), "--run", str(run), "--threads", "1", "--accelerator", "cpu", *more]
    return [sys.executable, "-m", "vidtok_ref.train.cli", str(recipe), *arguments]
