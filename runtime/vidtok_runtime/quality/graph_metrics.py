"""LPIPS and FVD through the graphs that `vidtok-export metric` makes, on ONNX Runtime."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime.bundle.onnx_file import check_onnx_file
from vidtok_runtime.engines.base import Options
from vidtok_runtime.engines.registry import PROVIDERS, choose_provider
from vidtok_runtime.errors import BundleError, InputError
from vidtok_runtime.files import is_file
from vidtok_runtime.quality.frechet import frechet_distance
from vidtok_runtime.quality.metrics import Pixels
from vidtok_runtime.streaming.geometry import to_network

METRIC = "vidtok_metric"  # the key of a graph's metadata that says what it measures
FVD_CLIPS = 256  # FVD is published over 2,048 clips, now and then over 256


class _Graph:
    """A metric graph and what it says about itself; raises BundleError when `path` holds no graph of this kind."""

    def __init__(self, kind: str, path: Path, provider: str, options: Options) -> None:
        engine = choose_provider("cuda" if provider == "cuda" else "cpu")  # the graphs are for ONNX Runtime
        if engine != provider:
            print(f"vidtok: {kind} is computed on {engine}", file=sys.stderr)
            options = replace(options, provider_options=())  # they are of another engine
        from vidtok_runtime.engines.ort import OrtSession

        if not is_file(path):
            raise BundleError(f"{path} is no file; make one with: vidtok-export metric {kind}")
        check_onnx_file(path)
        self._session = OrtSession(PROVIDERS[engine], path, options)
        self.metadata = self._session.metadata
        if self.metadata.get(METRIC) != kind:
            raise BundleError(f"{path} is no {kind} graph; make one with: vidtok-export metric {kind}")

    def run(self, **inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(next(iter(self._session.run(inputs).values())), np.float32)


class LpipsGraph:
    """Perceptual distance of two pictures."""

    def __init__(self, path: Path, provider: str, options: Options) -> None:
        self._graph = _Graph("lpips", path, provider, options)

    def __str__(self) -> str:
        return f"LPIPS 0.1 ({self._graph.metadata['net']})"

    def __call__(self, original: Pixels, decoded: Pixels) -> float:
        """Distance of two uint8 pictures `H W 3`; 0 for equal ones."""
        a, b = (to_network(x[None], 1)[:, :, 0] for x in (original, decoded))
        return float(self._graph.run(a=a, b=b)[0])


class FvdGraph:
    """Frechet distance of I3D features of clips, as published: shorter side 224 (bilinear), centre 224x224."""

    def __init__(self, path: Path, provider: str, options: Options) -> None:
        self._graph = _Graph("fvd", path, provider, options)
        self.frames = int(self._graph.metadata["frames"])
        self._originals: dict[str, NDArray[np.float32]] = {}

    def __str__(self) -> str:
        return f"FVD (I3D Kinetics-400 logits, {self.frames} frames)"

    def check(self, frames: int | None) -> None:
        """Raise InputError unless clips have the graph's length."""
        if frames != self.frames:
            raise InputError(
                f"this FVD graph takes {self.frames} frames, the protocol has {frames or 'whole clips'}; "
                f"give --frames {self.frames}, or make another: vidtok-export metric fvd --frames {frames or 17}"
            )

    def features(self, clip: Sequence[Pixels]) -> NDArray[np.float32]:
        """Features `400` of a clip of uint8 pictures."""
        frames = np.stack([_square(pixels, int(self._graph.metadata["size"])) for pixels in clip])
        return np.asarray(self._graph.run(video=to_network(frames, 1))[0], np.float32)

    def features_of_original(self, key: str, clip: Sequence[Pixels]) -> NDArray[np.float32]:
        """The same, computed once for each key."""
        if key not in self._originals:
            self._originals[key] = self.features(clip)
        return self._originals[key]

    @staticmethod
    def distance(a: list[NDArray[np.float32]], b: list[NDArray[np.float32]]) -> float | None:
        """FVD of clips by their features; None for fewer than two clips, which have no covariance."""
        if len(a) < 2:
            return None
        return frechet_distance(np.stack(a).astype(np.float64), np.stack(b).astype(np.float64))


def _square(pixels: Pixels, size: int) -> NDArray[np.float32]:
    """`H W 3` in -1..1, the shorter side resized to `size` and the centre cut out."""
    height, width = pixels.shape[:2]
    scale = size / min(height, width)
    target = (max(size, math.ceil(width * scale)), max(size, math.ceil(height * scale)))
    # OpenCV's linear resizing is the plain bilinear one of the field's scripts, without smoothing.
    resized = cv2.resize(pixels.astype(np.float32), target, interpolation=cv2.INTER_LINEAR)
    top, left = ((n - size) // 2 for n in resized.shape[:2])
    return np.asarray(resized[top : top + size, left : left + size] / np.float32(127.5) - np.float32(1), np.float32)
