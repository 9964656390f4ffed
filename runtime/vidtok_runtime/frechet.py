"""Frechet distance of two sets of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _root(symmetric: Array) -> Array:
    """Square root of a positive semi-definite matrix; negative eigenvalues are rounding errors and count as 0."""
    values, vectors = np.linalg.eigh(symmetric)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def frechet_distance(a: Array, b: Array) -> float:
    """Between the normal distributions of two feature sets `n d`, n > 1 (Dowson and Landau 1982).

    |mean a - mean b|^2 + tr(A + B - 2 sqrt(sqrt(A) B sqrt(A))), A and B the covariances over n - 1.
    """
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root_a = _root(cov_a)
    values = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    cross = np.sqrt(np.maximum(values, 0)).sum()
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)
