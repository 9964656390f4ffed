"""The figures of one method on clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.errors import InputError
from vidtok_runtime.evaluation.methods import Method
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol
from vidtok_runtime.quality.bits_per_pixel import bits_per_pixel
from vidtok_runtime.quality.graph_metrics import FvdGraph, LpipsGraph
from vidtok_runtime.quality.metrics import Pixels, Quality


@dataclass(frozen=True)
class Measures:
    """The measures that need a graph; None: left out."""

    lpips: LpipsGraph | None = None
    fvd: FvdGraph | None = None

    def names(self) -> list[str]:
        """What they are, in full."""
        return [str(measure) for measure in (self.lpips, self.fvd) if measure]


@dataclass
class Result:
    """Figures of one clip, or the mean of all: dB, SSIM, bits per pixel, LPIPS (None: not measured)."""

    clip: str
    frames: int
    psnr: float
    ssim: float
    bits_per_pixel: float
    lpips: float | None = None


@dataclass
class Evaluation:
    """Measures one method on clips, one by one."""

    method: Method
    protocol: Protocol
    measures: Measures = field(default_factory=Measures)

    def __post_init__(self) -> None:
        self.results: list[Result] = []
        self.bits: dict[Path, float] = {}
        self._features: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        if self.measures.fvd is not None:
            self.measures.fvd.check(self.protocol.frames)

    def add(self, clip: Excerpt, name: str | None = None) -> Result:
        """Measure one clip, which is called `name`, or as its file; raises VidtokError."""
        quality, fvd = Quality(self.measures.lpips), self.measures.fvd
        originals: list[Pixels] = []
        decoded: list[Pixels] = []
        for original, pixels in self.method.round_trip(clip):
            quality.add(original, pixels)
            if fvd is not None:
                originals.append(original)
                decoded.append(pixels)
        if fvd is not None:
            key = f"{clip.path} {clip.protocol}"
            self._features.append((fvd.features_of_original(key, originals), fvd.features(decoded)))
        self.bits[clip.path] = self.method.bits
        rate = bits_per_pixel(self.method.bits, quality.frames, clip.height, clip.width)
        row = Result(name or clip.path.stem, quality.frames, quality.psnr, quality.ssim, rate, quality.lpips)
        self.results.append(row)
        return row

    @property
    def fvd(self) -> float | None:
        """Frechet video distance over all clips; None when it is not measured or there is one clip only."""
        return FvdGraph.distance([a for a, _ in self._features], [b for _, b in self._features])

    def mean(self) -> Result:
        """Mean over the clips; raises InputError when there are none."""
        if not self.results:
            raise InputError("no clip could be measured")
        rows = self.results
        psnr, ssim, bits = (float(np.mean([getattr(r, n) for r in rows])) for n in ("psnr", "ssim", "bits_per_pixel"))
        lpips = [row.lpips for row in rows if row.lpips is not None]
        return Result(
            "mean", sum(row.frames for row in rows), psnr, ssim, bits, float(np.mean(lpips)) if lpips else None
        )

    def to_json(self) -> dict[str, Any]:
        """All of it, with the protocol."""
        return {
            "name": self.method.name,
            "kind": self.method.kind,
            **self.method.describe(),
            "protocol": str(self.protocol),
            "clips": [vars(row) for row in self.results],
            "mean": vars(self.mean()),
            "fvd": self.fvd,
        }
