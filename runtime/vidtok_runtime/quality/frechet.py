"""Frechet distance of two sets of features."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _root(features: Array) -> Array:
    """X of the covariance X'X, with no more rows than features."""
    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"), np.float64)


def frechet_distance(a: Array, b: Array) -> float:
    """Between the normal distributions of two feature sets `n d`, n > 1 (Dowson and Landau 1982).

    |mean a - mean b|^2 + tr(A + B - 2 sqrt(sqrt(A) B sqrt(A))), A and B the covariances over n - 1.
    """
    x, y = _root(a), _root(b)
    # With A = X'X and B = Y'Y the trace of the last root is the sum of the singular values of XY', as it is of
    # sqrt(A) sqrt(B). Roots of A and B would be inexact where there are fewer clips than features.
    cross = np.linalg.norm(x @ y.T, "nuc")
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.sum(x**2) + np.sum(y**2) - 2 * cross)
