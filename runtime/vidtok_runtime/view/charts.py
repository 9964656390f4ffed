"""Charts as what is in them, apart from how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Span = tuple[float, float]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bar:
    """A filled rectangle from `left` to `right` and `low` to `high`."""

    left: float
    right: float
    low: float
    high: float
    faint: bool = False


@dataclass
class Chart:
    """Axes over the spans of x (whole numbers are marked) and y, and what is drawn in them, bars first.

    text: what the chart shows, for those who do not see it. level: where a dashed line goes across.
    """

    text: str
    x: Span
    y: Span
    x_label: str
    y_label: str
    bars: list[Bar] = field(default_factory=list)
    line: Points = ()
    level: float | None = None

    def __post_init__(self) -> None:
        self.x, self.y = _apart(self.x), _apart(self.y)
        if self.level is not None and not self.y[0] <= self.level <= self.y[1]:
            self.level = None

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies, 0..1 from the left and from the top."""
        return (x - self.x[0]) / (self.x[1] - self.x[0]), (self.y[1] - y) / (self.y[1] - self.y[0])

    @property
    def x_ticks(self) -> list[float]:
        """Whole numbers to mark on the x axis."""
        return [tick for tick in ticks(self.x) if tick == round(tick)]

    @property
    def y_ticks(self) -> list[float]:
        """Numbers to mark on the y axis."""
        return ticks(self.y)


def ticks(span: Span, most: int = 5) -> list[float]:
    """Round numbers within a span."""
    low, high = span
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _apart(span: Span) -> Span:
    """The span, widened where it is a point."""
    low, high = span
    return span if high > low else (low - 0.5, low + 0.5)
