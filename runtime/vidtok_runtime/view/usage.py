"""What the tokens or latents of a stream are like: running statistics, and a colour for each of them."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.manifest import Manifest

Array = NDArray[Any]
_PRIMARIES = 3
_GOLDEN = (math.sqrt(5) - 1) / 2  # hues at multiples of it are never close to those before


class CodeHistogram:
    """How often each code of a codebook occurs."""

    def __init__(self, codes: int, levels: Sequence[int] = ()) -> None:
        self._counts = np.zeros(codes, np.int64)
        # Digits mean something only where the index is made of them.
        self._levels = tuple(levels) if len(levels) >= _PRIMARIES else ()

    def add(self, indices: Array) -> None:
        """Count tokens of any shape."""
        codes, counts = np.unique(indices, return_counts=True)
        self._counts[codes] += counts

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return len(self._counts)

    @property
    def tokens(self) -> int:
        """Tokens seen."""
        return int(self._counts.sum())

    @property
    def used(self) -> int:
        """Codes that occurred at least once."""
        return int(np.count_nonzero(self._counts))

    @property
    def entropy(self) -> float:
        """Bits a token of the distribution seen."""
        seen = self._counts[self._counts > 0] / self.tokens
        return float(-(seen * np.log2(seen)).sum())

    def histogram(self, most: int = 64) -> Array:
        """Share of the tokens in each of at most `most` equal ranges of the codebook."""
        width = -(-self.codes // most)
        starts = np.arange(0, self.codes, width)
        return np.asarray(np.add.reduceat(self._counts, starts) / max(1, self.tokens))

    def colours(self, tokens: Array) -> NDArray[np.uint8]:
        """RGB `h w 3` of tokens `h w`: the digits of an index, the first three first, so that like codes look alike."""
        if not self._levels:
            return np.array([[_hue(int(code)) for code in row] for row in tokens], np.uint8)
        values = np.zeros((_PRIMARIES, *tokens.shape))
        sizes = [1] * _PRIMARIES
        rest = tokens.astype(np.int64)
        for k, level in enumerate(self._levels):
            primary = k % _PRIMARIES
            values[primary] = values[primary] * level + rest % level
            sizes[primary] *= level
            rest = rest // level
        shades = [v / max(1, n - 1) for v, n in zip(values, sizes, strict=True)]
        return np.asarray(np.rint(40 + 200 * np.stack(shades, axis=-1)), np.uint8)

    @property
    def colours_mean(self) -> str:
        """What the colours of the token map are, as a sentence."""
        if self._levels:
            return "The digits of a token make its colour, so tokens that are alike look alike."
        return "Each code has a colour of its own; alike colours mean nothing."


class LatentUsage:
    """Mean, spread and main directions of latents."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self._sum = np.zeros(channels)
        self._products = np.zeros((channels, channels))
        self.least = np.full(channels, np.inf)
        self.most = np.full(channels, -np.inf)

    def add(self, latents: Array) -> None:
        """Count latents `t C h w`."""
        rows = latents.transpose(0, 2, 3, 1).reshape(-1, latents.shape[1]).astype(np.float64)
        self.count += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows
        self.least = np.minimum(self.least, rows.min(axis=0))
        self.most = np.maximum(self.most, rows.max(axis=0))

    @property
    def mean(self) -> Array:
        """Of every channel."""
        return np.asarray(self._sum / self.count)

    @property
    def std(self) -> Array:
        """Of every channel."""
        return np.asarray(np.sqrt(np.maximum(0, np.diag(self._covariance))))

    @property
    def _covariance(self) -> Array:
        return np.asarray(self._products / self.count - np.outer(self.mean, self.mean))

    def colours(self, latent: Array) -> NDArray[np.uint8]:
        """RGB `h w 3` of one latent `C h w`: its three main components over the clip, 2.5 deviations either way."""
        variances, directions = np.linalg.eigh(self._covariance)
        order = np.argsort(variances)[::-1][:_PRIMARIES]
        centred = latent.astype(np.float64) - self.mean[:, None, None]
        shown = np.full((_PRIMARIES, *latent.shape[1:]), 0.5)
        for k, i in enumerate(order):
            direction = directions[:, i] * np.sign(directions[np.abs(directions[:, i]).argmax(), i])
            shown[k] += np.tensordot(direction, centred, 1) / (5 * math.sqrt(max(variances[i], 1e-12)))
        return np.asarray(np.rint(255 * np.clip(shown, 0, 1)).transpose(1, 2, 0), np.uint8)

    @property
    def colours_mean(self) -> str:
        """What the colours of the latent map are, as a sentence."""
        return "Red, green and blue are the three main components (PCA) of the latents of this clip."


def usage_of(manifest: Manifest) -> CodeHistogram | LatentUsage:
    """Empty statistics for what a bundle makes."""
    stream = manifest.stream
    if stream.codebook_size is None:
        return LatentUsage(stream.latent_channels)
    return CodeHistogram(stream.codebook_size, stream.levels)


def _hue(code: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(code * _GOLDEN % 1, 0.55, 0.6)
    return round(255 * red), round(255 * green), round(255 * blue)
