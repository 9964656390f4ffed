"""Workers on this machine: spawned processes that are watched, timed and replaced."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing import connection

from vidtok_runtime.dataset.feed import ROOM
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Outcome
from vidtok_runtime.dataset.team import Team

# Bytes that such a process takes: frames that wait, and what it has beside them (41 MiB measured at 960x540, more of
# larger frames).
OF_A_READER = ROOM + (100 << 20)
OF_A_CLIP = 20 << 20  # and for each further clip that it has open (8 MiB measured at 960x540, 28 at 1920x1080)


@dataclass(frozen=True)
class LocalEngine:
    """Runs batches in `workers` processes with `readers` others each, which read ahead of it.

    time_limit: seconds of a clip, read, encoded and written; one that takes longer is stopped. Waiting for the clips
    before it does not count.
    devices: numbers of the devices that the workers take in turns; none: that of the recipe.
    """

    workers: int
    time_limit: float | None = None
    readers: int = 1
    devices: Sequence[int] = ()

    def run(self, recipe: EncodeRecipe, batches: Sequence[Batch]) -> Generator[Outcome]:
        """Outcomes as they come, one for each job to do; raises ProviderError when the workers cannot start."""
        waiting = deque(batches)
        count = min(self.workers, len(batches))
        readers = min(self.readers, -(-len(batches) // count))
        of_a_reader = OF_A_READER + (max(map(len, batches)) - 1) * OF_A_CLIP
        # Before they take any, so that one that is replaced gets no less.
        recipe = recipe.shared(count, aside=count * readers * of_a_reader)
        devices = [self.devices[i % len(self.devices)] for i in range(count)] if self.devices else []
        recipes = [recipe.on(device) for device in devices] or [recipe] * count
        teams: dict[int, Team] = {}
        try:
            for number in range(count):
                teams[number] = Team(recipes[number], readers, self.time_limit)
            while waiting or any(team.busy for team in teams.values()):
                for team in teams.values():
                    team.give(waiting)
                patience = min(3600.0, max(0.0, min(team.ends for team in teams.values()) - time.monotonic()))
                spoken = connection.wait([line for team in teams.values() for line in team.lines], patience)
                for number, team in list(teams.items()):
                    yield from team.listen(spoken)
                    if team.left is not None:
                        waiting.extendleft(reversed(team.left))
                        del teams[number]
                        if waiting:
                            teams[number] = Team(recipes[number], readers, self.time_limit)
        finally:
            for team in teams.values():
                team.kill()
