"""How long batches have taken where several wait for one engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T", bound=Hashable)


class Clocks(Generic[_T]):
    """Gives each of the things that are begun so many seconds, and finds one that has used them up.

    Those do not count in which it waits for the engine: from when its beginning has been read until the engine takes
    it up, and while the engine is at one that it took up earlier. Nothing waits while the engine has taken up none.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._left: dict[_T, float] = {}
        self._waiting: set[_T] = set()  # for the engine to take them up
        self._taken: list[_T] = []  # in the order in which it did
        self._at: _T | None = None

    def begin(self, thing: _T, seconds: float) -> None:
        """It is read from now on."""
        self._count()
        self._left[thing] = seconds

    def wait(self, thing: _T) -> None:
        """Its beginning has been read."""
        self._count()
        if thing in self._left and thing not in self._taken:
            self._waiting.add(thing)

    def take(self, thing: _T) -> None:
        """The engine is at it from now on."""
        self._count()
        self._waiting.discard(thing)
        if thing not in self._taken:
            self._taken.append(thing)
        self._at = thing

    def end(self, thing: _T) -> None:
        """It is over."""
        self._count()
        del self._left[thing]
        self._waiting.discard(thing)
        if thing in self._taken:
            self._taken.remove(thing)

    @property
    def ends(self) -> float:
        """When one will have used up its seconds, if nothing changes."""
        return self._since + min((self._left[thing] for thing in self._running()), default=math.inf)

    def late(self) -> _T | None:
        """One that has used up its seconds."""
        self._count()
        return next((thing for thing in self._running() if self._left[thing] < 0), None)

    def _running(self) -> list[_T]:
        behind = self._taken.index(self._at) + 1 if self._at in self._taken else len(self._taken)
        waiting = {*self._waiting, *self._taken[behind:]} if self._taken else ()
        return [thing for thing in self._left if thing not in waiting]

    def _count(self) -> None:
        now = self._now()
        for thing in self._running():
            self._left[thing] -= now - self._since
        self._since = now
