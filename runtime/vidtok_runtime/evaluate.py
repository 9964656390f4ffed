"""How well a bundle brings clips back: PSNR, SSIM, codes in use, bits a pixel, by a stated protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vidtok_runtime.errors import InputError, VideoError
from vidtok_runtime.files import PartFile
from vidtok_runtime.metrics import Quality
from vidtok_runtime.pipeline import round_trip
from vidtok_runtime.tokenizer import Tokenizer
from vidtok_runtime.video_in import Frame, VideoReader


@dataclass(frozen=True)
class Protocol:
    """What is measured of a clip; None anywhere: as the clip is.

    The first `frames` frames at `fps`, the shorter side resized to `size` pixels (area), the centre square cut out.
    """

    frames: int | None = 17
    size: int | None = 256
    fps: Fraction | None = Fraction(30)

    def __str__(self) -> str:
        picture = f"centre {self.size}x{self.size} of shorter side {self.size}" if self.size else "whole pictures"
        rate = f"{float(self.fps):g} frames a second" if self.fps else "own frame rate"
        return f"{self.frames or 'all'} frames at {rate}, {picture}; means over frames, then over clips"


def at_rate(frames: Iterator[Frame], rate: Fraction | None, time_base: Fraction) -> Iterator[Frame]:
    """The frame on show at every 1/rate second since the first, repeated or left out as need be."""
    if rate is None:
        yield from frames
        return
    shown = next(frames, None)
    start, count = shown.pts if shown else 0, 0
    for frame in frames:
        while shown is not None and Fraction(count) / rate < (frame.pts - start) * time_base:
            yield shown
            count += 1
        shown = frame
    if shown is not None and Fraction(count) / rate <= (shown.pts - start) * time_base:
        yield shown


def _square(frame: Frame, size: int | None) -> Frame:
    if size is None:
        return frame
    top, left = ((n - size) // 2 for n in frame.pixels.shape[:2])
    return replace(frame, pixels=frame.pixels[top : top + size, left : left + size])


@dataclass
class Result:
    """Figures of one clip, or the mean of all: dB, SSIM, bits a pixel (KL: 16 a number)."""

    clip: str
    frames: int
    psnr: float
    ssim: float
    bits_per_pixel: float


class Evaluation:
    """Measures clips one by one; `codes_used` counts over all of them."""

    def __init__(self, tok: Tokenizer, protocol: Protocol) -> None:
        self.tok = tok
        self.protocol = protocol
        codes = tok.manifest.codebook_size
        self._seen: NDArray[np.bool_] | None = np.zeros(codes, np.bool_) if codes else None
        self._bits = math.log2(codes) if codes else 16.0
        self._numbers = 0
        self.results: list[Result] = []

    def add(self, clip: Path) -> Result:
        """Measure one clip; raises VideoError."""
        protocol, quality = self.protocol, Quality()
        self._numbers = 0
        with VideoReader(clip, str(protocol.size) if protocol.size else None) as reader:
            frames = at_rate(iter(reader), protocol.fps, reader.time_base)
            chosen = (_square(frame, protocol.size) for frame in islice(frames, protocol.frames))
            height, width = (protocol.size or n for n in (reader.height, reader.width))
            for frame, pixels in round_trip(self.tok, chosen, height, width, self._look):
                quality.add(frame.pixels, pixels)
        if protocol.frames and quality.frames < protocol.frames:
            raise VideoError(f"{clip} has {quality.frames} of the {protocol.frames} frames that the protocol asks for")
        bits = self._bits * self._numbers / (quality.frames * height * width)
        self.results.append(Result(clip.stem, quality.frames, quality.psnr, quality.ssim, bits))
        return self.results[-1]

    def _look(self, data: NDArray[Any]) -> None:
        self._numbers += data.size
        if self._seen is not None:
            self._seen[data.ravel()] = True

    @property
    def codes_used(self) -> float | None:
        """Share of the codebook that occurred at least once; None for KL."""
        return None if self._seen is None else float(self._seen.mean())

    def mean(self) -> Result:
        """Mean over the clips; raises InputError when there are none."""
        if not self.results:
            raise InputError("no clip could be measured")
        rows = self.results
        means = (float(np.mean([getattr(row, name) for row in rows])) for name in ("psnr", "ssim", "bits_per_pixel"))
        return Result("mean", sum(row.frames for row in rows), *means)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the protocol."""
        return {
            "variant": self.tok.manifest.variant,
            "weights_sha256": self.tok.manifest.weights_sha256,
            "provider": self.tok.provider,
            "precision": self.tok.precision,
            "protocol": str(self.protocol),
            "clips": [vars(row) for row in self.results],
            "mean": vars(self.mean()),
            "codes_used": self.codes_used,
        }


def _row(row: Result) -> str:
    return f"{row.clip:<32}{row.frames:>7}{row.psnr:>9.2f} dB{row.ssim:>9.4f}{row.bits_per_pixel:>9.4f}"


def evaluate_folder(
    tok: Tokenizer, folder: Path, protocol: Protocol, out: Path | None = None, *, force: bool = False, quiet: bool
) -> Iterator[str]:
    """Lines of a table, as they are measured; `out` gets the figures as JSON. Clips that fail have a line, too.

    Raises OutputError before any work when `out` is there already, InputError when nothing could be measured.
    """
    target = PartFile(out, force=force) if out else None
    evaluation = Evaluation(tok, protocol)
    clips = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    yield f"{tok.manifest.variant}, {protocol}"
    yield f"{'clip':<32}{'frames':>7}{'PSNR':>12}{'SSIM':>9}{'bits/px':>9}"
    for clip in tqdm(clips, unit="clip", disable=quiet):
        try:
            yield _row(evaluation.add(clip))
        except VideoError as error:
            yield f"left out: {error}"
    yield _row(evaluation.mean())
    if evaluation.codes_used is not None:
        yield f"codes in use: {evaluation.codes_used:.1%} of {tok.manifest.codebook_size:,}"
    if target is not None:
        target.open()
        target.write(json.dumps(evaluation.to_json(), indent=1).encode())
        target.commit()
