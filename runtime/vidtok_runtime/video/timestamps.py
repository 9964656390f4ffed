"""Times that rise: what becomes of timestamps that are missing, doubled, run backwards or jump."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

_BACK = 1  # seconds; pictures that overlap by less are squeezed behind each other
_AHEAD = 10  # seconds; more is a break where a format is made to be cut and joined
_T = TypeVar("_T")


class Timestamps:
    """Gives frames times that rise, in display order: their own wherever these do.

    A single time between two good ones that does not fit there lies halfway between them. Where times go on from an
    earlier (by a second or more) or, with `breaks`, from a much later one, what follows is moved to follow by `step`;
    that is counted as a jump. A missing time follows by `step`. `time_base` is in seconds, times in units of it.
    turn: after so many units the clock of the file begins anew, which FFmpeg also takes for what happened where it goes
    back; None for never.
    """

    def __init__(self, time_base: Fraction, step: int, *, breaks: bool, turn: int | None = None) -> None:
        self._step, self._breaks, self._turn = step, breaks, turn
        self._back, self._ahead = (max(1, int(seconds / time_base)) for seconds in (_BACK, _AHEAD))
        self._offset = 0
        self.jumps = 0
        self.first_jump: int | None = None  # the time that the frame behind it got
        self.jumped = 0  # units of time left out or gone back, in all

    def rising(self, frames: Iterable[tuple[_T, int | None]]) -> Iterator[tuple[_T, int]]:
        """Frames and their times; one whose time is in doubt waits for the next, no other does."""
        before: int | None = None
        doubtful: tuple[_T, int] | None = None
        for frame, own in frames:
            if doubtful is not None:
                assert before is not None
                if own is not None and before < own + self._offset <= before + self._ahead:
                    time = max(before + 1, (before + own + self._offset) // 2)
                else:
                    time = self._moved(before, doubtful[1], squeeze=True)
                yield doubtful[0], time
                before, doubtful = time, None
            if before is None:
                before = own or 0
            elif own is None:
                before += self._step
            elif before < own + self._offset <= before + self._ahead:
                before = own + self._offset
            else:
                doubtful = frame, own
                continue
            yield frame, before
        if doubtful is not None:
            assert before is not None
            yield doubtful[0], self._moved(before, doubtful[1], squeeze=False)

    def _moved(self, before: int, own: int, *, squeeze: bool) -> int:
        """The time of a frame whose own, `own`, does not follow `before`, and no good one comes behind it."""
        time = own + self._offset
        if time > before and not self._breaks:
            return time  # a long look at one picture
        if time > before or before - time >= self._back:
            self.jumps += 1
            self.jumped += abs(self._in_file(own) - self._in_file(before - self._offset))
            self._offset += before + self._step - time
            if self.first_jump is None:
                self.first_jump = before + self._step
        elif squeeze:
            return before + max(1, self._step // 8)
        return before + self._step

    def _in_file(self, time: int) -> int:
        return time % self._turn if self._turn else time
