"""How close two pictures are: PSNR, SSIM and, where there is a graph for it, LPIPS."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
BEST_PSNR = 100.0  # dB, what equal frames count in a mean


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures; infinite when they are equal."""
    error = np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(a: Pixels, b: Pixels) -> float:
    """Structural similarity of two uint8 pictures (Wang et al. 2004: Gaussian window 11, sigma 1.5), mean of RGB."""
    x, y = a.astype(np.float32), b.astype(np.float32)

    def blur(v: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.GaussianBlur(v, (11, 11), 1.5), np.float32)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    score /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(score.mean())


class Quality:
    """Running mean over frames of PSNR, SSIM and, with a `distance`, LPIPS; equal frames count as 100 dB."""

    def __init__(self, distance: Callable[[Pixels, Pixels], float] | None = None) -> None:
        self.frames = 0
        self._distance = distance
        self._psnr = 0.0
        self._ssim = 0.0
        self._lpips = 0.0

    def add(self, original: Pixels, decoded: Pixels) -> None:
        """Compare one frame, uint8 `H W 3`."""
        self.frames += 1
        self._psnr += min(BEST_PSNR, psnr(original, decoded))
        self._ssim += ssim(original, decoded)
        if self._distance is not None:
            self._lpips += self._distance(original, decoded)

    @property
    def psnr(self) -> float:
        """DB."""
        return self._psnr / self.frames

    @property
    def ssim(self) -> float:
        """-1..1, 1 for equal pictures."""
        return self._ssim / self.frames

    @property
    def lpips(self) -> float | None:
        """0 for equal pictures; None without a `distance`."""
        return None if self._distance is None else self._lpips / self.frames
