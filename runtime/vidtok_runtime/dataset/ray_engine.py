"""Workers as actors of Ray Data: one row a clip, failures as rows, on one machine or a cluster with shared files."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidtok_runtime.dataset.job import EncodeRecipe, Job, Outcome
from vidtok_runtime.dataset.part import ClipPart
from vidtok_runtime.dataset.worker import Worker
from vidtok_runtime.errors import ProviderError
from vidtok_runtime.machine import cores
from vidtok_runtime.remote import place_of

_DEATHS = 2  # times that a batch may lose its actor and be given to another


@dataclass(frozen=True)
class RayEngine:
    """Runs jobs in `actors` actors of so many CPUs and GPUs, `batch` clips at a time.

    Joins the cluster of $RAY_ADDRESS, or starts Ray on this machine and ends it again. Raises ProviderError.
    """

    actors: int
    cpus: float
    gpus: float = 0.0
    batch: int = 1

    def __post_init__(self) -> None:
        if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
            raise ProviderError("engine ray: Ray Data is not installed; pip install 'vidtok-onnx[ray]'")

    def run(self, recipe: EncodeRecipe, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Outcomes as they come, one a job; raises ProviderError when Ray or the actors cannot start."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is wrong comes as an exception, too
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)

        own = not ray.is_initialized()
        try:
            if own:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            missing = {job.clip for job in jobs}
            for row in self._rows(recipe, jobs).iter_rows():
                outcome = Outcome(*json.loads(row["outcome"]))
                missing.discard(outcome.clip)
                yield outcome
            for clip in sorted(missing):
                yield Outcome(clip, None, f"the actor of its batch died {_DEATHS + 1} times")
        except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
            raise ProviderError(f"engine ray: {str(error).strip().splitlines()[-1]}") from error
        finally:
            if own:
                ray.shutdown()

    def _rows(self, recipe: EncodeRecipe, jobs: Sequence[Job]) -> Any:
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # batches that cannot be saved must not end the others
        # As JSON, since a table holds no text that is not UTF-8.
        rows = [{"job": json.dumps([job.clip, job.url, str(job.target.absolute()), job.part])} for job in jobs]
        blocks = -(-len(rows) // self.batch)  # a task a batch, so that its rows come when they are there
        with warnings.catch_warnings():
            # The limit of retries is a deprecated option; without it, a clip that kills its actor is tried for ever.
            warnings.simplefilter("ignore", DeprecationWarning)
            return ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
                _Actor,
                fn_constructor_args=(recipe, self.actors, self.cpus),
                batch_size=self.batch,
                batch_format="numpy",
                # A batch that waits for an actor which another one kills would count as having died with it.
                compute=ray.data.ActorPoolStrategy(size=min(self.actors, blocks), max_tasks_in_flight_per_actor=1),
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                max_restarts=-1,
                max_task_retries=_DEATHS,
            )


class _Actor:
    """A worker with its session, fed by batches of rows."""

    def __init__(self, recipe: EncodeRecipe, actors: int, cpus: float) -> None:
        here = max(1, int(cores() // cpus)) if cpus else actors  # that fit on this machine
        self._worker = Worker(recipe.shared(min(actors, here)))

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        said = (json.loads(str(text)) for text in batch["job"])
        jobs = (Job(clip, url, place_of(target), ClipPart(*part)) for clip, url, target, part in said)
        return {"outcome": np.array([json.dumps(self._worker.attempt(job)) for job in jobs])}
