"""How a data set is gone about, and what came of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Outcome
from vidtok_runtime.dataset.progress import Standing
from vidtok_runtime.remote import Place


class Engine(Protocol):
    """What runs workers."""

    def run(self, recipe: EncodeRecipe, batches: Sequence[Batch]) -> Generator[Outcome]:
        """Outcomes as they come, one for each job that is not over."""
        ...


@dataclass(frozen=True)
class DatasetPlan:
    """How to go about it: part `shard[0]` of `shard[1]`, tries of a clip, clips a tar (None: a file a clip).

    batch: so many clips that follow each other are read together, and share calls if they have one size and length.
    again: try clips in quarantine again; verify: check the hash of every finished file, not its size only;
    scenes: cut clips where shots change; progress, metrics: see `Progress`.
    """

    shard: tuple[int, int] = (0, 1)
    tries: int = 2
    batch: int = 1
    per_tar: int | None = None
    again: bool = False
    verify: bool = False
    scenes: bool = False
    progress: str = "bar"
    metrics: Place | None = None

    @property
    def tag(self) -> str:
        """What the names of this part's own files have in them."""
        return "" if self.shard[1] == 1 else "-{}-of-{}".format(*self.shard)


@dataclass(frozen=True)
class Summary(Standing):
    """What a run came to, and the list of clips that failed."""

    quarantine: Place
