"""Workers as actors of Ray Data: one row a batch, failures as rows, on one machine or a cluster with shared files."""

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

from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome, left_of
from vidtok_runtime.dataset.part import ClipPart
from vidtok_runtime.dataset.worker import Worker
from vidtok_runtime.errors import ProviderError
from vidtok_runtime.machine import cores
from vidtok_runtime.remote import place_of

_DEATHS = 2  # times that a row may lose its actor and be given to another


@dataclass(frozen=True)
class RayEngine:
    """Runs batches in `actors` actors of so many CPUs and GPUs.

    Joins the cluster of $RAY_ADDRESS, or starts Ray on this machine and ends it again. Raises ProviderError.
    """

    actors: int
    cpus: float
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
            raise ProviderError("engine ray: Ray Data is not installed; pip install 'vidtok-onnx[ray]'")

    def run(self, recipe: EncodeRecipe, batches: Sequence[Batch]) -> Generator[Outcome]:
        """Outcomes as they come, one for each job to do; raises ProviderError when Ray or the actors cannot start."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what is wrong comes as an exception, too
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)

        own = not ray.is_initialized()
        try:
            if own:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            while batches:
                left = {clip: job for batch in batches for clip, job in left_of(batch).items()}
                for row in self._rows(recipe, batches).iter_rows():
                    for said in json.loads(row["outcomes"]):
                        outcome = Outcome(*said)
                        del left[outcome.clip]
                        yield outcome
                # Whose fault it is that actors die is known of a clip alone.
                lost = {batch[0].clip for batch in batches if len(batch) == 1} & left.keys()
                for clip in sorted(lost):
                    yield Outcome(clip, None, f"the actor that had it died {_DEATHS + 1} times")
                batches = [(job,) for clip, job in left.items() if clip not in lost]
        except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
            raise ProviderError(f"engine ray: {str(error).strip().splitlines()[-1]}") from error
        finally:
            if own:
                ray.shutdown()

    def _rows(self, recipe: EncodeRecipe, batches: Sequence[Batch]) -> Any:
        import ray

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # batches that cannot be saved must not end the others
        # As JSON, since a table holds no text that is not UTF-8.
        rows = [{"batch": json.dumps([[*job[:2], str(job.target.absolute()), *job[3:]] for job in b])} for b in batches]
        with warnings.catch_warnings():
            # The limit of retries is a deprecated option; without it, a clip that kills its actor is tried for ever.
            warnings.simplefilter("ignore", DeprecationWarning)
            # A task a row, so that its outcomes come when they are there.
            return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
                _Actor,
                fn_constructor_args=(recipe, self.actors, self.cpus),
                batch_size=1,
                batch_format="numpy",
                # A batch that waits for an actor which another one kills would count as having died with it.
                compute=ray.data.ActorPoolStrategy(size=min(self.actors, len(rows)), max_tasks_in_flight_per_actor=1),
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                max_restarts=-1,
                max_task_retries=_DEATHS,
            )


class _Actor:
    """A worker with its session, fed by rows."""

    def __init__(self, recipe: EncodeRecipe, actors: int, cpus: float) -> None:
        here = max(1, int(cores() // cpus)) if cpus else actors  # that fit on this machine
        self._worker = Worker(recipe.shared(min(actors, here)))

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        outcomes = [list(self._worker.attempt(_batch(str(text)))) for text in rows["batch"]]
        return {"outcomes": np.array([json.dumps(each) for each in outcomes])}


def _batch(text: str) -> Batch:
    said = json.loads(text)
    return tuple(Job(clip, url, place_of(target), ClipPart(*part), over) for clip, url, target, part, over in said)
