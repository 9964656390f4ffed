"""The trainer on made-up clips: it learns, resumes exactly, averages, and says what is wrong."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from vidtok_ref import ModelError, build
from vidtok_ref.errors import DataError, DivergedError, WeightsError
from vidtok_ref.train.cli import main
from vidtok_ref.train.recipe import RECIPES, Recipe, load_recipe
from vidtok_ref.train.run import train
from vidtok_ref.train.start import start_from_linear
from vidtok_ref.weights import write_weights
from vidtok_runtime.demo import synthetic_frame
from vidtok_runtime.video_out import VideoWriter

NARROW = {"ch": 4, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1}
TINY = """
steps = 6
[model]
variant = "kl-4chn"
overrides = { ch = 4, ch_mult = [1, 1, 2, 2], num_res_blocks = 1 }
start = "linear"
ema = 0.995
[data]
batch = 2
frames = 5
size = 32
short_side = 40
held_back = ["held"]
held_back_frames = 5
held_back_size = 32
[optimizer]
warmup = 1
cooldown = 2
[loss]
l2 = 1.0
[report]
log_every = 1
validate_every = 3
checkpoint_every = 3
"""


def tiny(folder: Path, *changes: tuple[str, str]) -> Path:
    """A recipe file with some of its text replaced, or lines added behind a section's head."""
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / f"recipe-{abs(hash(text))}.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    for name, first in (("a", 0), ("b", 20), ("held", 50)):
        with VideoWriter(folder / f"{name}.mp4") as writer:
            for i in range(12):
                writer.write(synthetic_frame(first + i, 144, 144), i)
            writer.close()
    cv2.imwrite(str(folder / "photo.png"), synthetic_frame(7, 160, 200))
    (folder / "broken.mp4").write_text("no video")
    return folder


def same_weights(one: Path, other: Path) -> bool:
    one_tensors, other_tensors = (load_file(run / "best.safetensors") for run in (one, other))
    return all(torch.equal(one_tensors[name], other_tensors[name]) for name in one_tensors)


def test_it_runs(clips, tmp_path):
    best = train(load_recipe(str(tiny(tmp_path))), clips, tmp_path / "whole")
    assert best > 5
