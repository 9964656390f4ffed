"""Samples by number and batches by step: the same whatever the workers, processes or interruptions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vidtok_ref.errors import DataError
from vidtok_ref.train.clips import FileClip, Pixels, read_image
from vidtok_ref.train.cut import cut_video, pan_image, vary
from vidtok_ref.train.material import Material
from vidtok_ref.train.recipe import DataPart
from vidtok_runtime.errors import VideoError

_TRIES = 100  # unreadable files in a row before the material is given up


class Batch(NamedTuple):
    """Clips uint8 `N T H W 3`, their global sample numbers int64 `N`, and why files were left out on the way."""

    video: Tensor
    number: Tensor
    skipped: list[str]


class Samples(Dataset[tuple[Pixels, int, list[str]]]):
    """Sample `number` of a run depends on the seed and the number alone."""

    def __init__(self, material: Material, part: DataPart, seed: int) -> None:
        self.material, self.part, self.seed = material, part, seed
        # Long clips hold more to see, up to a point; what files hold is not known before they are opened.
        lengths = np.array([1 if isinstance(v, Path) else min(len(v.times), 60) for v in material.videos], float)
        self.odds = lengths / lengths.sum()

    def __getitem__(self, number: int) -> tuple[Pixels, int, list[str]]:
        rng = np.random.default_rng((self.seed, number))
        skipped: list[str] = []
        while len(skipped) < _TRIES:
            try:
                clip = self._cut(rng)
            except VideoError as error:
                skipped.append(str(error))
                continue
            return vary(clip, self.part, rng), number, skipped
        raise DataError(f"{_TRIES} files drawn in a row cannot be read, the last: {skipped[-1]}")

    def _cut(self, rng: Generator) -> Pixels:
        part, images = self.part, self.material.images
        if images and rng.random() < part.image_share:
            image = images[int(rng.integers(len(images)))]
            return pan_image(read_image(image, 2 * part.short_side) if isinstance(image, Path) else image, part, rng)
        video = self.material.videos[int(rng.choice(len(self.odds), p=self.odds))]
        if not isinstance(video, Path):
            return cut_video(video, part, rng)
        return cut_video(FileClip(video, part.short_side), part, rng)


class Numbers(Sampler[list[int]]):
    """Numbers of this process's share of every batch, from step `first` on."""

    def __init__(self, batch: int, first: int, steps: int, rank: int = 0, world: int = 1) -> None:
        self.batch, self.first, self.steps = batch, first, steps
        self.share = range(rank * batch // world, (rank + 1) * batch // world)

    def __len__(self) -> int:
        return max(0, self.steps - self.first)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.steps):
            yield [step * self.batch + i for i in self.share]


def _collate(samples: list[tuple[Pixels, int, list[str]]]) -> Batch:
    clips, numbers, skipped = zip(*samples, strict=True)
    return Batch(
        torch.from_numpy(np.stack(clips)), torch.tensor(numbers), [line for lines in skipped for line in lines]
    )


def make_loader(samples: Samples, numbers: Numbers) -> DataLoader[Batch]:
    """The batches of one process, cut by `workers` processes."""
    workers = samples.part.workers
    return DataLoader(
        samples,  # type: ignore[arg-type]
        batch_sampler=numbers,
        collate_fn=_collate,
        num_workers=workers,
        # Threads of the video decoders and of OpenCV do not survive a fork, after which they are waited for for ever.
        multiprocessing_context="spawn" if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
