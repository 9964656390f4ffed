"""Evenly spread samples and a curve of a stream whose length nobody knows, in constant memory."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

_T = TypeVar("_T")
_MAX_POINTS = 400


class Spread(Generic[_T]):
    """At most `count` of the items of a stream, evenly spread: of four times as many every second goes when full."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._step = 1
        self._kept: list[_T] = []

    def wants(self, index: int) -> bool:
        """Whether the item with this number is one to keep."""
        return index % self._step == 0

    def keep(self, item: _T) -> None:
        """Keep an item that is wanted."""
        self._kept.append(item)
        if len(self._kept) > 4 * self._count:
            self._kept = self._kept[::2]
            self._step *= 2

    def chosen(self) -> list[_T]:
        """The samples, the first item among them."""
        last = len(self._kept) - 1
        return [self._kept[i] for i in sorted({round(k * last / max(1, self._count - 1)) for k in range(self._count)})]


class Curve:
    """Means of a growing series: neighbours are joined so that there are never more than some hundred points."""

    def __init__(self) -> None:
        self.count = 0
        self.least = math.inf
        self.most = -math.inf
        self._total = 0.0
        self._width = 1
        self._sums: list[float] = []

    def add(self, value: float) -> None:
        """The next value of the series."""
        if self.count == self._width * _MAX_POINTS:
            self._sums = [a + b for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
            self._width *= 2
        if self.count % self._width == 0:
            self._sums.append(0.0)
        self._sums[-1] += value
        self._total += value
        self.count += 1
        self.least, self.most = min(self.least, value), max(self.most, value)

    @property
    def mean(self) -> float:
        """Of all values."""
        return self._total / self.count

    @property
    def points(self) -> list[tuple[float, float]]:
        """Position in the series and mean there."""
        sizes = [min(self._width, self.count - i * self._width) for i in range(len(self._sums))]
        return [(i * self._width + (n - 1) / 2, s / n) for i, (s, n) in enumerate(zip(self._sums, sizes, strict=True))]
