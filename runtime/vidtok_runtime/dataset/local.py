"""Workers on this machine: spawned processes that are watched, timed and replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any

from tqdm import tqdm

from vidtok_runtime.dataset.worker import EncodeRecipe, Job, Outcome, Worker
from vidtok_runtime.errors import ProviderError, VidtokError


@dataclass(frozen=True)
class LocalEngine:
    """Runs jobs in `workers` processes; a clip that takes longer than `time_limit` seconds is stopped."""

    workers: int
    time_limit: float | None = None

    def run(self, recipe: EncodeRecipe, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Outcomes as they come, one a job; raises ProviderError when the workers cannot start."""
        waiting = deque(jobs)
        count = min(self.workers, len(jobs))
        recipe = recipe.shared(count)  # before they take any, so that one that is replaced gets no less
        pool = [_Process(recipe) for _ in range(count)]
        try:
            while waiting or any(process.job for process in pool):
                ends = [process.ends for process in pool if process.ends]
                patience = min(3600.0, max(0.0, min(ends) - time.monotonic())) if ends else None
                spoken = connection.wait([process.line for process in pool], patience)
                for i, process in enumerate(pool):
                    if process.line in spoken:
                        yield from process.listen()
                    elif process.ends and time.monotonic() > process.ends:
                        yield from process.stop(f"it took longer than {self.time_limit:g} s")
                    if process.dead and waiting:
                        pool[i] = _Process(recipe)
                    elif process.ready and not process.job and waiting:
                        process.give(waiting.popleft(), self.time_limit)
                pool = [process for process in pool if not process.dead]
        finally:
            for process in pool:
                process.kill()


class _Process:
    """A worker process as its parent sees it."""

    def __init__(self, recipe: EncodeRecipe) -> None:
        # Forked processes would inherit the threads' locks of engines, not their threads, and hang.
        context = get_context("spawn")
        self.line, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, recipe), daemon=True)
        self._process.start()
        theirs.close()  # so that its death ends the line
        self.job: Job | None = None
        self.ends: float | None = None
        self.ready = self.dead = False

    def give(self, job: Job, time_limit: float | None) -> None:
        self.job = job
        self.ends = time.monotonic() + time_limit if time_limit else None
        with contextlib.suppress(OSError):  # it has died; the line says so when it is read
            self.line.send(job)

    def listen(self) -> Iterator[Outcome]:
        """What it has to say, or that it died."""
        try:
            said: Any = self.line.recv()
        except (EOFError, OSError):
            self._process.join()
            if not self.ready:
                raise ProviderError(f"a worker died while it loaded the bundle: {self._death()}") from None
            yield from self.stop(f"the worker died: {self._death()}")
            return
        if isinstance(said, str):
            raise ProviderError(said)
        self.ready, self.job, self.ends = True, None, None
        if said:
            yield said

    def stop(self, reason: str) -> Iterator[Outcome]:
        """Kill it; the clip that it was at, if any, has failed."""
        self.kill()
        self.dead = True
        if self.job:
            yield Outcome(self.job.clip, None, reason)
        self.job = self.ends = None

    def kill(self) -> None:
        """End it, however busy it is."""
        self._process.kill()
        self._process.join()
        self.line.close()

    def _death(self) -> str:
        code = self._process.exitcode or 0
        return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"


def _serve(line: connection.Connection, recipe: EncodeRecipe) -> None:
    """Say None when ready (or what is wrong), then an outcome for every job."""
    # What goes to all of a group, as Ctrl-C does, is for the parent, which ends its workers.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its own is shared between processes and left behind by one that is killed
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        worker = Worker(recipe)
    except VidtokError as error:
        line.send(str(error))
        return
    line.send(None)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            line.send(worker.attempt(line.recv()))


def _follow_parent() -> None:
    """End with the parent, even if that is killed: nobody would take note of what is done here."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
