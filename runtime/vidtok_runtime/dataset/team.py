"""A worker process and those that read for it, as their parent sees them."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from vidtok_runtime.dataset.job import EncodeRecipe, Job, Outcome
from vidtok_runtime.dataset.processes import serve_engine, serve_reader
from vidtok_runtime.errors import ProviderError


class _Reader:
    """jobs: those that were given and have no outcome, the oldest first; free: whether another may be given.

    started: whether it has ever been free.
    """

    def __init__(self, process: BaseProcess, line: Connection) -> None:
        self.process, self.line = process, line
        self.jobs: dict[str, Job] = {}
        self.free = self.started = False


class Team:
    """One process that encodes and some that read for it; when one of them dies, all are ended.

    left: jobs that were begun when it ended, without that at fault; None while it works.
    """

    def __init__(self, recipe: EncodeRecipe, readers: int, time_limit: float | None) -> None:
        # Forked processes would inherit the threads' locks of engines, not their threads, and hang.
        context = get_context("spawn")
        self._time_limit = time_limit
        self._begun: dict[str, float] = {}  # when the clock of a clip was started
        self._ready = False
        self.left: list[Job] | None = None
        self._at: Job | None = None  # which the engine had at work last
        self._readers: list[_Reader] = []
        feeds = []
        for _ in range(readers):
            line, theirs = context.Pipe()
            feed, sender = context.Pipe(duplex=False)
            process = context.Process(target=serve_reader, args=(theirs, sender, recipe), daemon=True)
            process.start()
            theirs.close()  # so that its death ends the line
            sender.close()
            self._readers.append(_Reader(process, line))
            feeds.append(feed)
        self._line, theirs = context.Pipe()
        self._engine = context.Process(target=serve_engine, args=(theirs, feeds, recipe), daemon=True)
        self._engine.start()
        for end in (theirs, *feeds):
            end.close()

    @property
    def jobs(self) -> list[Job]:
        """Those begun that have no outcome."""
        return [job for reader in self._readers for job in reader.jobs.values()]

    @property
    def lines(self) -> list[Connection]:
        """What it says something by."""
        return [self._line, *(reader.line for reader in self._readers)]

    @property
    def ends(self) -> float | None:
        """When a clip will have taken too long; None: no clip will, for now."""
        if self._time_limit is None or not self._begun:
            return None
        return min(self._begun.values()) + self._time_limit

    def give(self, waiting: deque[Job]) -> None:
        """Have those read who are free, once the engine is ready: what is wrong with that is no clip's fault."""
        for reader in self._readers:
            if self._ready and reader.free and waiting:
                job = waiting.popleft()
                reader.jobs[job.clip], reader.free = job, False
                self._begun[job.clip] = time.monotonic()
                with contextlib.suppress(OSError):  # it has died; the line says so when it is read
                    reader.line.send(job)

    def listen(self, spoken: Sequence[object]) -> Iterator[Outcome]:
        """What those have to say whose lines are among the spoken, that one died, or that a clip takes too long."""
        if self._line in spoken:
            yield from self._listen_to_engine()
        for reader in self._readers:
            if self.left is None and reader.line in spoken:
                try:
                    reader.line.recv()
                    reader.free = reader.started = True
                except (EOFError, OSError):
                    if not reader.started:
                        raise ProviderError(
                            f"a process that reads died at its start: {_death(reader.process)}"
                        ) from None
                    newest = None if reader.free else next(reversed(reader.jobs.values()), None)
                    yield from self._stop(newest, f"the process that read it died: {_death(reader.process)}")
        if self.left is None and self.ends and time.monotonic() > self.ends:
            clip = min(self._begun, key=self._begun.__getitem__)
            job = next(job for job in self.jobs if job.clip == clip)
            yield from self._stop(job, f"it took longer than {self._time_limit:g} s")

    def _listen_to_engine(self) -> Iterator[Outcome]:
        try:
            said: Any = self._line.recv()
        except (EOFError, OSError):
            death = _death(self._engine)
            if not self._ready:
                raise ProviderError(f"a worker died while it loaded the bundle: {death}") from None
            oldest = min(self.jobs, key=lambda job: self._begun[job.clip], default=None)
            yield from self._stop(self._at if self._at in self.jobs else oldest, f"the worker died: {death}")
            return
        if isinstance(said, str):
            raise ProviderError(said)
        if said is None:
            self._ready = True
        elif isinstance(said, Job):
            self._at = said
        elif self._begun.pop(said.clip, None):  # else it has failed already
            for reader in self._readers:
                reader.jobs.pop(said.clip, None)
            yield said

    def _stop(self, failed: Job | None, reason: str) -> Iterator[Outcome]:
        """End all; the clip at fault, if any, has failed."""
        self.kill()
        self.left = sorted((job for job in self.jobs if job != failed), key=lambda job: self._begun[job.clip])
        for reader in self._readers:
            reader.jobs.clear()
        if failed:
            yield Outcome(failed.clip, None, reason)

    def kill(self) -> None:
        """End its processes, however busy they are."""
        processes = [self._engine, *(reader.process for reader in self._readers)]
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        for line in self.lines:
            line.close()


def _death(process: BaseProcess) -> str:
    process.join()
    code = process.exitcode or 0
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
