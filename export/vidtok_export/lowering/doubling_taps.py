"""What every doubling by nearest neighbours and a convolution comes down to."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from vidtok_runtime.engines.base import Array

Tap = TypeVar("Tap", Tensor, Array)


def doubling_taps(w0: Tap, w1: Tap, w2: Tap) -> list[Tap]:
    """Four taps of a transposed convolution of stride 2 that equal nearest x2 and then these three along one axis.

    An input stands behind its two copies and reaches one output before and one behind them.
    """
    return [w2, w1 + w2, w0 + w1, w0]
