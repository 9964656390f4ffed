"""Training material: clips and photographs held as small uint8 arrays, cut at random by step number."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vidtok_ref.errors import DataError
from vidtok_ref.train.recipe import Recipe
from vidtok_runtime.errors import VideoError
from vidtok_runtime.video_in import VideoReader

Pixels = NDArray[np.uint8]
VIDEO = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".3gp"}
IMAGE = {".jpg", ".jpeg", ".png"}


@dataclass
class Material:
    """Decoded training set: videos `T H W 3`, photographs `H W 3`, held-back clips `T H W 3`."""

    videos: list[Pixels]
    images: list[Pixels]
    held_back: list[Pixels]
    skipped: list[str]


def _notes(folder: Path) -> dict[str, str]:
    """File name -> note of the nearest SOURCES.csv, if there is one."""
    for parent in (folder, *folder.resolve().parents[:2]):
        table = parent / "SOURCES.csv"
        if table.is_file():
            with table.open(newline="") as rows:
                return {Path(row["file"]).name: row["note"] for row in csv.DictReader(rows)}
    return {}


def _read(path: Path, short_side: int, limit: int) -> Pixels:
    with VideoReader(path, size=str(short_side)) as reader:
        return np.stack([frame.pixels for frame, _ in zip(reader, range(limit), strict=False)])


def load_material(folder: Path, recipe: Recipe) -> Material:
    """Decode every clip and photograph below `folder`; unreadable files are listed, not fatal. Raises DataError."""
    notes = _notes(folder)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO | IMAGE)
    files = [p for p in files if not any(doubt in notes.get(p.name, "") for doubt in recipe.skip_notes)]
    material = Material([], [], [], [])
    for path in tqdm(files, desc="reading clips", unit="file"):
        try:
            if path.suffix.lower() in IMAGE:
                material.images.append(_read(path, 2 * recipe.short_side, 1)[0])
            elif path.stem in recipe.held_back:
                held = _read(path, 128, 17)
                top, left = (held.shape[1] - 128) // 2, (held.shape[2] - 128) // 2
                material.held_back.append(held[:, top : top + 128, left : left + 128])
            else:
                material.videos.append(_read(path, recipe.short_side, recipe.max_clip_frames))
        except VideoError as error:
            material.skipped.append(str(error))
    if not material.videos or not material.held_back:
        raise DataError(
            f"{folder} gave {len(material.videos)} clips to train on and {len(material.held_back)} held back; "
            "both are needed (`held_back` in the recipe names clips by file stem)"
        )
    return material


def _cut_video(clip: Pixels, recipe: Recipe, rng: Generator) -> Pixels:
    stride = int(rng.integers(1, 3))
    index = np.arange(recipe.frames) * stride
    start = int(rng.integers(0, max(1, len(clip) - index[-1])))
    index = np.minimum(index + start, len(clip) - 1)
    if rng.random() < 0.5:
        index = index[::-1]
    top = int(rng.integers(0, clip.shape[1] - recipe.size + 1))
    left = int(rng.integers(0, clip.shape[2] - recipe.size + 1))
    return clip[index, top : top + recipe.size, left : left + recipe.size]


def _pan_image(image: Pixels, recipe: Recipe, rng: Generator) -> Pixels:
    """A photograph under a smooth random pan and zoom."""
    n, size = recipe.frames, recipe.size
    zoom = np.linspace(*np.exp(rng.uniform(np.log(0.8), np.log(2.2), 1).repeat(2) + rng.normal(0, 0.04, 2)), n)
    reach = size * zoom.max() / 2 + 1
    height, width = image.shape[:2]
    x0, y0 = rng.uniform(reach, max(reach, width - reach)), rng.uniform(reach, max(reach, height - reach))
    dx, dy = rng.normal(0, 1.2, 2)
    frames = []
    for i in range(n):
        x, y, z = x0 + dx * i, y0 + dy * i, zoom[i]
        matrix = np.array([[z, 0, x - z * size / 2], [0, z, y - z * size / 2]])
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_AREA if z > 1 else cv2.INTER_LINEAR)
        frames.append(cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101))
    return np.stack(frames)


def to_tensor(clips: Pixels) -> Tensor:
    """uint8 `N T H W 3` to float32 `N 3 T H W` in -1..1, channels last in memory."""
    return (torch.from_numpy(np.ascontiguousarray(clips)).float() / 127.5 - 1).permute(0, 4, 1, 2, 3)


def batches(material: Material, recipe: Recipe, first_step: int) -> Iterator[Tensor]:
    """Batches for the steps from `first_step` on; each depends on seed and step alone, so that runs resume exactly."""
    lengths = np.array([min(len(v), 60) for v in material.videos], float)
    for step in range(first_step, recipe.steps):
        rng = np.random.default_rng((recipe.seed, step))
        clips = []
        for _ in range(recipe.batch):
            if material.images and rng.random() < recipe.image_share:
                clip = _pan_image(material.images[rng.integers(len(material.images))], recipe, rng)
            else:
                clip = _cut_video(material.videos[rng.choice(len(lengths), p=lengths / lengths.sum())], recipe, rng)
            clips.append(clip[:, :, ::-1] if rng.random() < 0.5 else clip)
        yield to_tensor(np.stack(clips))
