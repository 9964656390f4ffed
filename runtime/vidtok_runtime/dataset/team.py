"""A worker process and those that read for it, as their parent sees them."""

from __future__ import annotations

import contextlib
import math
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from vidtok_runtime.dataset.clocks import Clocks
from vidtok_runtime.dataset.job import Batch, EncodeRecipe, Job, Outcome, left_of
from vidtok_runtime.dataset.processes import deaf_children, serve_engine, serve_reader
from vidtok_runtime.errors import ProviderError


class _Begun:
    """A batch that was given out; left: its jobs that have no outcome, by the names of their clips."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.left = left_of(batch)

    def rest(self) -> Batch:
        """The same batch, to go on with."""
        return tuple(job if job.clip in self.left else job._replace(over=True) for job in self.batch)


class _Reader:
    """at: what it reads, None where it is free to be given another; started: whether it has ever been free."""

    def __init__(self, process: BaseProcess, line: Connection) -> None:
        self.process, self.line = process, line
        self.at: _Begun | None = None
        self.free = self.started = False


class Team:
    """One process that encodes and some that read for it; when one of them dies, all are ended.

    time_limit: seconds for a clip (see Clocks); a batch has those of all its clips. Whose fault it is that a process
    dies or takes too long is known of a clip alone: those of a batch are given out anew one by one. left: what was
    begun when it ended, without a clip at fault; None while it works.
    """

    def __init__(self, recipe: EncodeRecipe, readers: int, time_limit: float | None) -> None:
        # Forked processes would inherit the threads' locks of engines, not their threads, and hang.
        context = get_context("spawn")
        self._time_limit = time_limit
        self._begun: list[_Begun] = []  # the oldest first, while there are jobs without an outcome
        self._clocks = Clocks[_Begun]()
        self._ready = False
        self.left: list[Batch] | None = None
        self._at: _Begun | None = None  # what the engine had at work last
        self._readers: list[_Reader] = []
        feeds = []
        with deaf_children():
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
    def busy(self) -> bool:
        """Whether there are jobs without an outcome."""
        return bool(self._begun)

    @property
    def lines(self) -> list[Connection]:
        """What it says something by."""
        return [self._line, *(reader.line for reader in self._readers)]

    @property
    def ends(self) -> float:
        """When a batch will have taken too long."""
        return self._clocks.ends

    def give(self, waiting: deque[Batch]) -> None:
        """Have those read who are free, once the engine is ready: what is wrong with that is no clip's fault."""
        for reader in self._readers:
            if self._ready and reader.free and waiting:
                reader.at, reader.free = _Begun(waiting.popleft()), False
                self._begun.append(reader.at)
                self._clocks.begin(reader.at, (self._time_limit or math.inf) * len(reader.at.left))
                with contextlib.suppress(OSError):  # it has died; the line says so when it is read
                    reader.line.send(reader.at.batch)

    def listen(self, spoken: Sequence[object]) -> Iterator[Outcome]:
        """What those have to say whose lines are among the spoken, that one died, or that a clip takes too long."""
        if self._line in spoken:
            yield from self._listen_to_engine()
        for reader in self._readers:
            if self.left is None and reader.line in spoken:
                try:
                    if reader.line.recv():
                        assert reader.at is not None
                        self._clocks.wait(reader.at)
                    else:
                        reader.at, reader.free, reader.started = None, True, True
                except (EOFError, OSError):
                    if not reader.started:
                        raise ProviderError(
                            f"a process that reads died at its start: {_death(reader.process)}"
                        ) from None
                    yield from self._stop(reader.at, f"the process that read it died: {_death(reader.process)}")
        late = self._clocks.late() if self.left is None else None
        if late is not None:
            yield from self._stop(late, f"it took longer than {self._time_limit:g} s")

    def _listen_to_engine(self) -> Iterator[Outcome]:
        try:
            said: Any = self._line.recv()
        except (EOFError, OSError):
            death = _death(self._engine)
            if not self._ready:
                raise ProviderError(f"a worker died while it loaded the bundle: {death}") from None
            fault = self._at if self._at in self._begun else next(iter(self._begun), None)
            yield from self._stop(fault, f"the worker died: {death}")
            return
        if isinstance(said, str):
            raise ProviderError(said)
        if said is None:
            self._ready = True
        elif isinstance(said, Job):
            self._at = self._batch_of(said.clip)
            if self._at:
                self._clocks.take(self._at)
        elif begun := self._batch_of(said.clip):  # else it has an outcome already
            del begun.left[said.clip]
            if not begun.left:
                self._begun.remove(begun)
                self._clocks.end(begun)
            yield said

    def _batch_of(self, clip: str) -> _Begun | None:
        return next((begun for begun in self._begun if clip in begun.left), None)

    def _stop(self, fault: _Begun | None, reason: str) -> Iterator[Outcome]:
        """End all; what is at fault, if anything, has failed if it is a clip alone."""
        self.kill()
        self.left = [begun.rest() for begun in self._begun if begun is not fault]
        self._begun.clear()
        if fault and len(fault.batch) > 1:
            self.left = [*((job,) for job in fault.left.values()), *self.left]
        elif fault:
            yield Outcome(fault.batch[0].clip, None, reason)

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
