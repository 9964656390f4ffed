"""How a data set is gone about, and what came of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vidtok_runtime.dataset.worker import EncodeRecipe, Job, Outcome
from vidtok_runtime.remote import Place


class Engine(Protocol):
    """What runs workers."""

    def run(self, recipe: EncodeRecipe, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Outcomes as they come, one a job."""
        ...


@dataclass(frozen=True)
class DatasetPlan:
    """How to go about it: part `shard[0]` of `shard[1]`, tries of a clip, clips a tar (None: a file a clip).

    again: try clips in quarantine again; verify: check the hash of every finished file, not its size only;
    scenes: cut clips where shots change.
    """

    shard: tuple[int, int] = (0, 1)
    tries: int = 2
    per_tar: int | None = None
    again: bool = False
    verify: bool = False
    scenes: bool = False

    @property
    def tag(self) -> str:
        """What the names of this part's own files have in them."""
        return "" if self.shard[1] == 1 else "-{}-of-{}".format(*self.shard)


@dataclass(frozen=True)
class Summary:
    """Clips of this part, those finished by now and by this run, those that failed; frames and seconds of this run."""

    clips: int
    done: int
    done_now: int
    quarantined: int
    frames: int
    seconds: float
    quarantine: Place
