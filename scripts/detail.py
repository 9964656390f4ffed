"""What bundles keep of fine detail: PSNR, SSIM, gradients, and pictures to judge by eye.

python scripts/detail.py CLIPS PICTURE.png BUNDLE ...              (two clips a row: the original, then each bundle)
python scripts/detail.py CLIPS PICTURE.png BUNDLE ... --shuffle 7  (each clip in its own order; PICTURE.txt tells it)
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime import Tokenizer
from vidtok_runtime.evaluation.methods import Model
from vidtok_runtime.evaluation.protocol import Excerpt, Protocol
from vidtok_runtime.files import PartFile, files_in
from vidtok_runtime.quality.metrics import Pixels, Quality

PROTOCOL = Protocol(size=128, fps=None)
ZOOM = 2  # pixels of a picture for each of a clip


@dataclass(frozen=True)
class Detail:
    """Of the frames of one clip: mean PSNR in dB, SSIM, and gradients in levels of 255."""

    psnr: float
    ssim: float
    gradient_error: float
    gradients_kept: float
    middle: Pixels


def gradients(frame: Pixels) -> list[NDArray[np.float32]]:
    """Differences of neighbours along rows and columns."""
    pixels = frame.astype(np.float32)
    return [np.diff(pixels, axis=0), np.diff(pixels, axis=1)]


def measure(model: Model, clip: Excerpt) -> Detail:
    """One clip there and back."""
    pairs = list(model.round_trip(clip))
    quality = Quality()
    errors, before, after = [], [], []
    for original, decoded in pairs:
        quality.add(original, decoded)
        for a, b in zip(gradients(original), gradients(decoded), strict=True):
            errors.append(np.abs(a - b).mean())
            before.append(np.abs(a).mean())
            after.append(np.abs(b).mean())
    kept = float(np.sum(after) / np.sum(before))
    return Detail(quality.psnr, quality.ssim, float(np.mean(errors)), kept, pairs[len(pairs) // 2][1])


def enlarged(frame: Pixels) -> Pixels:
    """Every pixel as a square, so that nothing is smoothed."""
    return np.asarray(cv2.resize(frame, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_NEAREST), np.uint8)


@click.command(help=__doc__)
@click.argument("clips", type=click.Path(exists=True, path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
@click.argument("bundles", nargs=-1, required=True)
@click.option("--shuffle", type=int, help="Seed of the order for each clip.")
def main(clips: Path, picture: Path, bundles: tuple[str, ...], shuffle: int | None) -> None:
    """Measure, draw and print a table."""
    excerpts = [Excerpt(path, PROTOCOL) for path in files_in(clips)]
    models = [Model(Tokenizer(bundle), Path(bundle).name) for bundle in bundles]
    results = [[measure(model, excerpt) for excerpt in excerpts] for model in models]
    print("| | PSNR (dB) | SSIM | gradient error | gradients kept |\n| - | - | - | - | - |")
    for model, rows in zip(models, results, strict=True):
        psnr, ssim, error, kept = (
            np.mean([getattr(row, name) for row in rows])
            for name in ("psnr", "ssim", "gradient_error", "gradients_kept")
        )
        print(f"| {model.name} | {psnr:.2f} | {ssim:.4f} | {error:.3f} | {kept:.1%} |")
    order, lines, legend = random.Random(shuffle), [], []
    for number, excerpt in enumerate(excerpts):
        columns = list(range(len(models)))
        if shuffle is not None:
            order.shuffle(columns)
        frames = [frame.pixels for frame in excerpt]
        cells = [frames[len(frames) // 2], *(results[column][number].middle for column in columns)]
        lines.append(np.concatenate([enlarged(cell) for cell in cells], axis=1))
        legend.append(" ".join([excerpt.path.stem, *(models[column].name for column in columns)]))
    if len(lines) % 2:
        lines.append(np.zeros_like(lines[0]))
    pairs = [np.concatenate(pair, axis=1) for pair in zip(lines[::2], lines[1::2], strict=True)]
    drawn = cv2.cvtColor(np.concatenate(pairs), cv2.COLOR_RGB2BGR)
    PartFile(picture, force=True).write_whole(cv2.imencode(picture.suffix, drawn)[1].tobytes())
    if shuffle is not None:
        PartFile(picture.with_suffix(".txt"), force=True).write_whole("\n".join(legend).encode())


if __name__ == "__main__":
    main()
