"""Whose time runs while several clips wait for one engine."""

from __future__ import annotations

import math

from vidtok_runtime.dataset.clocks import Clocks


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_waiting_for_the_engine_does_not_count() -> None:
    time = Time()
    clocks = Clocks[str](time)
    assert clocks.ends == math.inf
    for name in "abc":
        clocks.begin(name, 7)
    time.now += 1  # all are read
    for name in "abc":
        clocks.wait(name)
    for name in "abc":
        clocks.take(name)
        time.now += 3
        assert clocks.late() is None
        clocks.end(name)
    assert clocks.ends == math.inf


def test_one_that_hangs_is_found() -> None:
    time = Time()
    clocks = Clocks[str](time)
    clocks.begin("hangs", 7)
    for name in ("one", "two", "three"):  # the engine is never idle
        clocks.begin(name, 7)
        clocks.wait(name)
        clocks.take(name)
        assert clocks.late() is None
        time.now += 3
    assert clocks.late() == "hangs"


def test_one_that_hangs_behind_its_beginning_is_found() -> None:
    time = Time()
    clocks = Clocks[str](time)
    clocks.begin("hangs", 7)
    clocks.wait("hangs")
    clocks.begin("works", 7)
    clocks.take("works")
    time.now += 6
    clocks.end("works")
    assert clocks.ends == time.now + 7
    time.now += 8
    assert clocks.late() == "hangs"


def test_the_engine_goes_on_with_what_is_there() -> None:
    """One that it has begun and that gives nothing more runs out of time, whatever is done meanwhile."""
    time = Time()
    clocks = Clocks[str](time)
    clocks.begin("hangs", 7)
    clocks.take("hangs")
    clocks.begin("waits", 7)
    time.now += 3
    clocks.take("waits")
    time.now += 5
    assert clocks.late() == "hangs"
