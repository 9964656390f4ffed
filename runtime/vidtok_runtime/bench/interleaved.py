"""Timing processes that take turns, so that a slow minute hits all of them and each has its own peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from vidtok_runtime.errors import ProviderError, VidtokError

# Matrix libraries read these when they start; one process a side means that each starts with its own.
_THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM")
# Engines keep idle threads spinning for a moment; the next one's turn begins when they have gone to sleep.
_PAUSE = 0.05


@dataclass
class Times:
    """Seconds of loading and the first call together, of each later call, and the process's peak memory in bytes."""

    first_s: float
    calls_s: list[float] = field(default_factory=list)
    peak: int | None = None


def peak_memory() -> int | None:
    """Peak resident bytes of this process; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():  # unlike getrusage, not inherited from the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(load: Callable[[], Callable[[], object]]) -> None:
    """Be one side: load and make the first call, then one call for every line on stdin; replies are JSON lines."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # whatever libraries print goes to stderr

        def reply(**message: Any) -> None:
            print(json.dumps(message), file=replies, flush=True)

        try:
            start = time.perf_counter()
            call = load()
            call()
            reply(seconds=time.perf_counter() - start, peak=peak_memory())
            for _ in sys.stdin:
                start = time.perf_counter()
                call()
                reply(seconds=time.perf_counter() - start, peak=peak_memory())
        except VidtokError as error:
            reply(error=str(error))


class Side:
    """The other end of `serve`: a process, started by `command` with so many threads for its matrix library."""

    def __init__(self, command: Sequence[str], threads: int) -> None:
        limits = {name if name.endswith("MAXIMUM") else f"{name}_NUM": str(threads) for name in _THREADS}
        self._process = subprocess.Popen(  # noqa: S603, the callers start this very interpreter
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {f"{name}_THREADS": count for name, count in limits.items()},
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def turn(self) -> None:
        """Ask for one more call."""
        assert self._process.stdin
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait()  # `answer` says how it ended

    def answer(self) -> tuple[float, int | None]:
        """Seconds of the call and peak bytes so far; raises ProviderError when the process could not."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ProviderError(f"its process ended with exit code {self._process.wait()}")
        message = json.loads(line)
        if "error" in message:
            raise ProviderError(message["error"])
        return message["seconds"], message["peak"]


def interleave(
    commands: Mapping[str, Sequence[str]], threads: int, repeats: int, tick: Callable[[int], object]
) -> tuple[dict[str, Times], dict[str, str]]:
    """Times of each command by name, and the reason of each that failed; the turn behind the first call warms up.

    tick: is told how many calls are done.
    """
    times: dict[str, Times] = {}
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, command in commands.items():
            sides[name] = stack.enter_context(Side(command, threads))
            try:
                first, peak = sides[name].answer()
                times[name] = Times(first, peak=peak)
            except ProviderError as error:
                failed[name] = str(error)
            tick(1)
        for turn in range(repeats + 1):
            for name, side in sides.items():
                tick(1)
                if name in failed:
                    continue
                time.sleep(_PAUSE)
                side.turn()
                try:
                    seconds, times[name].peak = side.answer()
                except ProviderError as error:
                    failed[name] = str(error)
                    del times[name]
                    continue
                if turn:
                    times[name].calls_s.append(seconds)
    return times, failed
