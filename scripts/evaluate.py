"""Measure shipped bundles on a folder of clips: the start of every clip, small and square, and the whole clips.

python scripts/evaluate.py clips/ tiny-kl-16chn tiny-fsq-32768
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from vidtok_runtime import Tokenizer
from vidtok_runtime.metrics import Quality
from vidtok_runtime.video_in import VideoReader

FRAMES, SIDE = 17, 128


def first_frames(path: Path) -> NDArray[np.uint8]:
    """First 17 frames, shorter side resized to 128 (area), centre 128x128."""
    with VideoReader(path, size=str(SIDE)) as reader:
        frames = np.stack([frame.pixels for frame in islice(reader, FRAMES)])
    top, left = (frames.shape[1] - SIDE) // 2, (frames.shape[2] - SIDE) // 2
    return frames[:, top : top + SIDE, left : left + SIDE]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("bundles", nargs=-1, required=True)
@click.option("--provider", default="openvino", show_default=True)
def main(folder: Path, bundles: tuple[str, ...], provider: str) -> None:
    """PSNR and SSIM of BUNDLES on the clips in FOLDER, and for FSQ the share of codes in use."""
    print(f"first {FRAMES} frames, shorter side {SIDE} (area), centre {SIDE}x{SIDE}; mean over frames")
    for bundle in bundles:
        tok = Tokenizer(bundle, provider)
        rows, codes = [], []
        for path in sorted(p for p in folder.iterdir() if p.is_file()):
            clip = first_frames(path)
            tokens = tok.encode(clip)
            codes.append(tokens.data)
            quality = Quality()
            for original, decoded in zip(clip, tok.decode(tokens), strict=True):
                quality.add(original, decoded)
            rows.append((quality.psnr, quality.ssim))
            print(f"{bundle:<18}{path.stem:<28}{quality.psnr:7.2f} dB{quality.ssim:9.4f}", flush=True)
        psnr, ssim = np.mean(rows, axis=0)
        print(f"{bundle:<18}{'mean':<28}{psnr:7.2f} dB{ssim:9.4f}")
        size = tok.manifest.codebook_size
        if size:
            all_codes = np.concatenate([c.ravel() for c in codes])
            print(f"{bundle:<18}{len(np.unique(all_codes)):,} of {size:,} codes in {len(all_codes):,} tokens")


if __name__ == "__main__":
    main()
